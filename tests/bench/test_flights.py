"""A flight is whatever a client sends before it hears again."""

import socket
import threading

from bench.flights import counted


def test_speaking_twice_before_an_answer_is_one_flight() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(100):
                    if data.endswith(b"."):
                        connection.sendall(b"heard")

        threading.Thread(target=echo, daemon=True).start()
        with counted(server.getsockname()[1]) as (port, flights):
            with socket.create_connection(("127.0.0.1", port)) as client:
                for words in (b"one.", b"two.", b"three"):
                    client.sendall(words)
                    if words.endswith(b"."):
                        assert client.recv(100) == b"heard"
                client.sendall(b" and more.")
                assert client.recv(100) == b"heard"
            assert flights.count == 3
            flights.begin()
            assert flights.count == 0
