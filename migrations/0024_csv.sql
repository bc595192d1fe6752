-- CSV of exports: a cell that a spreadsheet would take for a formula is guarded by an apostrophe.

-- An apostrophe before what begins a formula: at the start of a cell, behind a separator or line end inside it (a program
-- that reads with another separator would begin a cell there), and before a tab or line end at its start. An apostrophe
-- that stands there already gets one more, so that taking one away gives back what was there.
-- Source: https://owasp.org/www-community/attacks/CSV_Injection
CREATE FUNCTION platform.guarded(cell text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN cell ~ '(^|[;\t\r\n])''*[-=+@\t\r\n＝＋－＠]' THEN
    regexp_replace(cell, '(^|(?<=[;\t\r\n]))(?=''*[-=+@＝＋－＠])|^(?=''*[\t\r\n])', '''', 'g')
    ELSE cell END;
GRANT EXECUTE ON FUNCTION platform.guarded(text) TO exports_jobs_fn;
