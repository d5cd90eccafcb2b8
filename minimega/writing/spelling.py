"""From tokens to text, token by token: what is certain goes out at once, the rest waits."""

from minimega.data.tokens import Tokenizer
from minimega.writing.prompt import Ask

BROKEN = "\N{REPLACEMENT CHARACTER}"  # stands for bytes that are no character, or not yet


class Spelling:
    """The text of an Ask that grows by a token at a time.

    `begin`, `take` and `finish` return what may be shown; together that is the text. Three things wait for
    later tokens: the bytes of a character that is not complete, the beginning of what may become `stop`, and
    white space at the end of an answer. `ended` says that no later token counts.

    >>> from minimega import Config
    >>> from minimega.data.tokens import train
    >>> from minimega.writing.prompt import ask
    >>> t = train("char", ["ab."])
    >>> text = Spelling(t, ask(Config(vocab_size=t.size), t, "b"), stop="ab")
    >>> text.begin(), [text.take(int(i)) for i in t.encode(".aab")], text.ended
    ('b', ['.', '', 'a', ''], True)
    """

    def __init__(self, tokenizer: Tokenizer, ask: Ask, stop: str | None = None):
        self.tokenizer, self.ask, self.stop = tokenizer, ask, stop or ""
        self.ends, self.ended = (tokenizer.start, ask.end), False
        # Only the tokens since the last complete character are decoded, and one before them: what joins two
        # tokens (a space, of some kinds) then comes as it does in the whole text.
        self.tail = [] if ask.answers else ask.ids[1:][-1:]
        self.given = len(tokenizer.decode(self.tail))  # characters of the tail that are already out
        if self.tail and tokenizer.kind == "whitespace" and ask.shown[-1].isspace():
            self.given += 1  # the prompt ends with the space that would join them
        self.begun = ""  # characters that may become `stop`
        self.space = ""  # white space that an answer may end with
        self.blank = ask.answers  # so far nothing but white space, which an answer does not begin with

    def begin(self) -> str:
        """What the text begins with: the prompt, unless it is an answer."""
        return self.ask.shown

    def take(self, token: int) -> str:
        """Add a token; returns the new text that is certain."""
        if self.ended:
            return ""
        if token in self.ends:
            return self.finish()
        self.tail.append(token)
        text = self.tokenizer.decode(self.tail)
        whole = len(text) - text.endswith(BROKEN)
        new, self.given = text[self.given : whole], max(self.given, whole)
        if whole == len(text):
            self.tail = [token]
            self.given = len(self.tokenizer.decode(self.tail))
        return self._up_to_stop(new)

    def finish(self) -> str:
        """End the text; returns what had waited."""
        if self.ended:
            return ""
        broken = self.tokenizer.decode(self.tail)[self.given :]  # bytes that never became a character
        out = self._up_to_stop(broken)
        if not self.ended:
            out, self.ended = out + self._stripped(self.begun), True
        return out

    def _up_to_stop(self, new: str) -> str:
        text, stop = self.begun + new, self.stop
        if stop and stop in text:
            self.ended = True
            return self._stripped(text.partition(stop)[0])
        keep = next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)
        self.begun = text[len(text) - keep :]
        return self._stripped(text[: len(text) - keep])

    def _stripped(self, new: str) -> str:
        if not self.ask.answers:
            return new
        text = self.space + new
        if self.blank:
            text = text.lstrip()
            self.blank = not text
        out = text.rstrip()
        self.space = text[len(out) :]
        return out
