import os

bind = "127.0.0.1:" + os.environ.get("PORT", "8101")
wsgi_app = "wsgi:application"
worker_class = "gthread"
workers = 2
threads = 4
keepalive = 75
preload_app = True  # import once, share the pages
worker_tmp_dir = "/dev/shm"
loglevel = "error"
control_socket_disable = True


def post_fork(server, worker):
    # Everything imported before the fork is permanent: keep the collector off it.
    import gc

    gc.freeze()
