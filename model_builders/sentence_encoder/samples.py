"""Texts on which an exported encoder is compared with the built one: every length, several scripts."""

from collections.abc import Sequence

SENTENCES = (
    "a guitar",
    "an instrument",
    "stocks",
    "The train was late again, so we walked along the river.",
    "Where can I change my password?",
    "How do I reset my password?",
    "The invoice of last month has not been paid yet.",
    "Please send the parcel back within fourteen days.",
    "Prices rose by 3.5 percent in the second quarter.",
    "It rained all night and the cellar is full of water.",
    "She plays the cello in the orchestra of her town.",
    "Boil the potatoes for twenty minutes, then peel them while they are hot.",
    "The patient was given 250 mg twice a day.",
    "def area(radius): return 3.14159 * radius ** 2",
    "SELECT name, count(*) FROM visits GROUP BY name HAVING count(*) > 10;",
    "The server answered 503 because no replica was ready.",
    "운수 좋은 날, 그는 인력거를 끌고 비 오는 거리를 달렸다.",
    "기차가 떠나고 역에는 아무도 남지 않았다.",
    "막걸리 한 잔과 두부김치를 시켰다.",
    "비밀번호를 바꾸려면 어디로 가야 하나요?",
    "Der Zug fährt heute nicht, bitte nehmen Sie den Bus.",
    "Le chat dort sur la chaise près de la fenêtre.",
    "El pedido llegó con dos días de retraso.",
    "東京の天気は明日から崩れるでしょう。",
    "Сегодня в городе открылась новая библиотека.",
    "الطقس اليوم مشمس ودافئ",
    "🎸 🎻 🎹",
    "so good!!! 😀👍🏽 would buy again",
    "e\u0301te\u0301 and \u00e9t\u00e9",
    "x",
    "1234567890",
    "   ",
    "",
)
"""The last ones are hard: one letter, digits, blanks, nothing at all."""


def sample_texts(max_tokens: int, candidates: Sequence[str]) -> list[str]:
    """The sentences, up to as many candidates, and texts of growing length, the last one cut at the limit.

    The same texts for the same model. A word is at least a token, so the longest has enough words.
    """
    step = max(1, len(candidates) // len(SENTENCES))
    prose = " ".join(sentence for sentence in SENTENCES[3:12])
    words = (prose.split() * (max_tokens // len(prose.split()) + 2))[: max_tokens + 8]
    lengths = sorted({max(1, len(words) // share) for share in (8, 4, 2)})
    longer = [" ".join(words[:length]) for length in (*lengths, len(words))]
    return [*SENTENCES, *candidates[::step][: len(SENTENCES)], *longer]
