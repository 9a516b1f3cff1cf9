"""Password strength: zxcvbn's estimate of how easy a password is to guess, and advice on improving it."""

from collections.abc import Sequence

from zxcvbn import zxcvbn

from invitree.base.problems import Text

# zxcvbn scores from 0 to 4. Below 2 means fewer than a million guesses: too few even with rate limits.
_MIN_SCORE = 2
# The time grows with the square of the length, and a password that is weak in its first 32 characters rarely improves.
_ESTIMATED_CHARACTERS = 32

TOO_COMMON = Text("This password is too common.", "Введённый пароль слишком широко распространён.")
_TOO_EASY = Text("This password is too easy to guess.", "Этот пароль слишком легко угадать.")

# zxcvbn's dictionaries are English.
_COMMON_IN_RUSSIAN = (
    "пароль", "привет", "йцукен", "любовь", "солнышко", "наташа", "россия", "москва", "максим", "андрей",
    "сергей", "марина", "люблю", "мама", "спартак", "зенит", "котенок", "дракон", "машина", "лето", "осень",
)  # fmt: skip

_RUSSIAN = {
    "Use a few words, avoid common phrases.": "Возьмите несколько слов и избегайте расхожих фраз.",
    "No need for symbols, digits, or uppercase letters.": "Символы, цифры и заглавные буквы не обязательны.",
    "Add another word or two. Uncommon words are better.": "Добавьте ещё одно-два слова, лучше редких.",
    "Straight rows of keys are easy to guess.": "Клавиши, идущие подряд, легко угадать.",
    "Short keyboard patterns are easy to guess.": "Короткие узоры на клавиатуре легко угадать.",
    "Use a longer keyboard pattern with more turns.": "Сделайте узор на клавиатуре длиннее и сложнее.",
    'Repeats like "aaa" are easy to guess.': "Повторы вроде «aaa» легко угадать.",
    'Repeats like "abcabcabc" are only slightly harder to guess than "abc".': (
        "Повторы вроде «abcabcabc» угадать лишь немногим труднее, чем «abc»."
    ),
    "Avoid repeated words and characters.": "Избегайте повторов слов и символов.",
    'Sequences like "abc" or "6543" are easy to guess.': "Последовательности вроде «abc» или «6543» легко угадать.",
    "Avoid sequences.": "Избегайте последовательностей.",
    "Recent years are easy to guess.": "Недавние годы легко угадать.",
    "Avoid recent years.": "Избегайте недавних годов.",
    "Avoid years that are associated with you.": "Избегайте годов, которые связаны с вами.",
    "Dates are often easy to guess.": "Даты часто легко угадать.",
    "Avoid dates and years that are associated with you.": "Избегайте дат и годов, которые связаны с вами.",
    "A word by itself is easy to guess.": "Одно слово легко угадать.",
    "Names and surnames by themselves are easy to guess.": "Имена и фамилии сами по себе легко угадать.",
    "Common names and surnames are easy to guess.": "Распространённые имена и фамилии легко угадать.",
    "Capitalization doesn't help very much.": "Заглавные буквы мало помогают.",
    "All-uppercase is almost as easy to guess as all-lowercase.": (
        "Одни заглавные буквы угадать почти так же легко, как одни строчные."
    ),
    "Reversed words aren't much harder to guess.": "Слова наоборот угадать ненамного труднее.",
    "Predictable substitutions like '@' instead of 'a' don't help very much.": (
        "Предсказуемые замены вроде «@» вместо «a» мало помогают."
    ),
}


def weakness(password: str, *, personal: Sequence[str]) -> Sequence[Text]:
    """Return why a password is too easy to guess and what would help; empty if it is strong enough.

    `personal` lists what others know about the user: the e-mail address, the username, the program's name.
    """
    if not password:
        return []  # zxcvbn does not accept an empty password
    estimate = zxcvbn(password[:_ESTIMATED_CHARACTERS], user_inputs=[*personal, *_COMMON_IN_RUSSIAN])
    if estimate["score"] >= _MIN_SCORE:
        return []
    warning, suggestions = estimate["feedback"]["warning"], estimate["feedback"]["suggestions"]
    if "common" in warning and "password" in warning:
        return [TOO_COMMON, *_advice(suggestions)]
    return [_TOO_EASY, *_advice([warning] if warning else []), *_advice(suggestions)]


def _advice(texts: Sequence[str]) -> Sequence[Text]:
    return [Text(text, _RUSSIAN[text]) for text in texts if text in _RUSSIAN]
