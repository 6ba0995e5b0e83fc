"""What the tiny models of the tests learn from, and are asked."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

# --- moods: sentences that are content or not ---

THINGS = ("영화", "음식", "노래", "배우", "가게", "책", "날씨", "여행")
VERY = ("정말", "아주", "꽤", "조금", "너무", "오늘은")
MOODS = {
    "긍정": ("좋았다", "재미있었다", "훌륭했다", "마음에 들었다", "감동적이었다", "최고였다"),
    "부정": ("나빴다", "지루했다", "실망스러웠다", "마음에 안 들었다", "형편없었다", "최악이었다"),
}


def mood_texts() -> list[tuple[str, str]]:
    found = [
        (f"{thing} {very} {says}.", label)
        for label, sayings in MOODS.items()
        for thing, very, says in itertools.product(THINGS, VERY, sayings)
    ]
    random.Random(1).shuffle(found)
    return found


# --- names: who and where ---

FAMILY, FIRST, SECOND = "김이박최정강조윤", "민서지도하예주은", "준연우윤현아호진"
PLACES = ("서울", "부산", "대구", "광주", "대전", "제주", "강릉", "전주")
DOES = ("태어났다", "일한다", "살고 있다", "공부했다", "친구를 만났다", "밥을 먹었다")


def name_texts(count: int) -> Iterator[list[tuple[str, str]]]:
    """Parts of a sentence with the label of each; what is O is punctuation, a particle or a verb."""
    choice = random.Random(2)
    for _ in range(count):
        name = choice.choice(FAMILY) + choice.choice(FIRST) + choice.choice(SECOND)
        last = (ord(name[-1]) - 0xAC00) % 28
        parts = [(name, "PER"), ("은" if last else "는", "O"), (" ", "O")]
        if choice.random() < 0.5:
            parts += [(choice.choice(("어제", "작년에", "지금")), "O"), (" ", "O")]
        yield [*parts, (choice.choice(PLACES), "LOC"), ("에서 ", "O"), (choice.choice(DOES), "O"), (".", "O")]


# --- animals: English to Korean ---

ADJECTIVES = {"red": "빨간", "small": "작은", "big": "큰", "old": "늙은", "white": "하얀"}
NOUNS = {"cat": "고양이", "dog": "강아지", "bird": "새", "bear": "곰", "fox": "여우", "horse": "말"}
VERBS = {"sees": "본다", "likes": "좋아한다", "follows": "따라간다", "knows": "안다"}


def animal_pairs() -> list[tuple[str, str]]:
    found = []
    for a, n, v, b, m in itertools.product(ADJECTIVES, NOUNS, VERBS, ADJECTIVES, NOUNS):
        who, whom = NOUNS[n], NOUNS[m]
        subject = "이" if (ord(who[-1]) - 0xAC00) % 28 else "가"
        whom += "을" if (ord(whom[-1]) - 0xAC00) % 28 else "를"
        korean = f"{ADJECTIVES[a]} {who}{subject} {ADJECTIVES[b]} {whom} {VERBS[v]}."
        found.append((f"The {a} {n} {v} the {b} {m}.", korean))
    random.Random(3).shuffle(found)
    return found


# --- digits: read aloud ---

DIGITS = tuple("영일이삼사오육칠팔구")
PREFIX = "읽기: "


def digit_pairs() -> list[tuple[str, str]]:
    choice = random.Random(4)
    found = {}
    for _ in range(1200):
        row = [choice.randrange(10) for _ in range(choice.randint(1, 6))]
        found[" ".join(map(str, row))] = " ".join(DIGITS[one] for one in row)
    return list(found.items())
