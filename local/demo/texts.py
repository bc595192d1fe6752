"""Names and descriptions that have broken programs before: they must come back as the bytes that were sent."""

import string

LONGEST_NAME = 255
LONGEST_DESCRIPTION = 10_000

FAMILY = "\U0001f468\U0001f3fd‍\U0001f469\U0001f3fb‍\U0001f467‍\U0001f466"  # one picture, four people, three joiners
FLAGS = "\U0001f1ea\U0001f1fa \U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f #️⃣ ❤️‍\U0001f525"
STACKED = "".join(letter + "".join(chr(0x300 + 7 * n % 0x60) for n in range(12)) for letter in "knot")
PIECE = "Zeile, línea, γραμμή, строка, 行, שורה, سطر, บรรทัด, पंक्ति, \U0001d4f5\U0001d4f2\U0001d4f7\U0001d4ee; "

TEXTS: tuple[tuple[str, str], ...] = (
    ("Plain", ""),
    ("Überholung der Kräne in Ærøskøbing — Łódź, Çeşme, Þingvellir, Ħamrun", "Grüße!\nZweite Zeile\r\n\tTab"),
    ("Склад № 7: ёлки, їжаки, џеп, Ѫѫ", "Ἀρχὴ μισή του παντός ἐστι; ᾧ ᾳ ΐ"),
    ("港の倉庫、半角ｶﾅと﨑と𠮷と葛󠄀", "여덟 상자, 첫가끝 ᄒᆞᆫ글, 繁體與简体"),
    ("\u200fمخزن رقم ٧ ← «الميناء» (12-34)\u200f", "\u202eoverride\u202c \u2067isolate\u2069 \u061c ﷽ ـــ"),
    ("מחסן ‎12/34‎ נָמָל", "שָׁלוֹם \u05bf\u05c1\u05c2 \ufb2a"),
    ("गोदाम क्‍ष क्‌ष ज़़ · ગોદામ · গুদাম · கிடங்கு", "ศาลา น้ำ ผู้ใหญ่ · ဂိုဒေါင် · ឃ្លាំង · መጋዘን · ᎠᏓᏁᎸ · ᠮᠣᠩᠭᠣᠯ"),
    (
        "e\u0301 is not \u00e9, \u212b is not \u00c5, \u1e9b\u0323 is \ufb01ne",
        "A\u030a\u0323 a\u0323\u030a \u1100\u1161\u11a8 \uac01",
    ),
    (f"Stacked {STACKED}", f"{FAMILY} {FLAGS}"),
    (
        f"{FAMILY}{FLAGS}\u00ad\u200b\u2060",
        "\ufeffbyte order mark \u2028 line \u2029 paragraph \u0085 next\u001f\u007f\u0001",
    ),
    (
        "\"double\" 'single' `back` \\ \\n \\u0041 \\x00 %s %(a)s {0} ${b} {{c}} #{d}",
        "null NULL None undefined NaN -0 1e999 true []",
    ),
    (
        "<script>alert(1)</script><img src=x onerror=alert(2)>&lt;&#39;&amp;amp;",
        "<!-- ]]> <![CDATA[ ]]> {% raw %} </style></title>",
    ),
    (
        "x'); DELETE FROM app.tasks; --",
        "1' OR '1'='1' /* $$ $1 :tenant_id :name \\' U&'\\0041' E'\\x41' COPY x FROM stdin;\n\\.\n",
    ),
    ('=HYPERLINK("http://example.org";"press")', '+1+1\n-2+3\n@SUM(A1:A9)\n\t=4\n\r=5\n;",\'""\'\n=1;2,3\t4'),
    ("  spaces   around \u00a0\u3000", " \t "),
    ((string.ascii_letters + string.digits) * 4 + "1234567", PIECE * (LONGEST_DESCRIPTION // len(PIECE))),
    ("\U0001f9f1" * LONGEST_NAME, "\U0001f9ea\u0301" * (LONGEST_DESCRIPTION // 2)),
)
