-- Sign-in: the lock against guessing, known devices, password reset, a new e-mail address.

-- Set by a reset by mail, cleared by the log-in after it.
ALTER TABLE identity.accounts ADD COLUMN reset_by_mail_at timestamptz;
