"""Which tokens to compute next: requests in, steps out, drawn tokens back in; no tensors.

The loop of an engine, and of nothing else:

    number = scheduler.submit(prompt, limit=len(prompt) + 100, client="ann")
    while (step := scheduler.plan()) is not None:
        for source, target in step.copies:
            runner.copy_block(source, target)
        logits = runner.step(step.pieces)
        scheduler.commit({number: [drawn token], ...})  # [] ends the sequence

A sequence is certain tokens of which the first ``computed`` lie in its blocks.  A step computes
some of the rest, so prefill, chunked prefill, decoding, resuming after pre-emption and reading
forced tokens are one thing; there are no phases.  Where vLLM v1 shares this idea, we are simpler:

- The blocks of all certain tokens are taken before anything of a step is planned, oldest sequence
  first; where they run out the newest gives up its own and waits (its full blocks stay remembered,
  so resuming is often free).  A planned piece is therefore never withdrawn.
- Decoding comes first, drafts next, prefill last.  Who prefills is decided by ``FairShare``.
- Nobody overtakes: while the next sequence does not fit, no other is admitted.  With the oldest
  never pre-empted and every length bounded, each sequence comes to its end.
- A client that has nothing running while another has several is let in at once.
- A step with fewer tokens than the budget is normal; nothing waits for a batch to fill.

Between ``plan`` and ``commit`` requests may be submitted, forked and cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fledge.core.errors import FledgeError, InputError
from fledge.engine.blocks import BlockPool, Scope
from fledge.engine.residency import Residency
from fledge.engine.sequence import SequenceState
from fledge.engine.step import Piece, Step


class Scheduler:
    """Continuous batching over ``blocks`` KV blocks of ``block_size`` positions.

    ``budget`` is the most tokens of a step, ``max_sequences`` the most that hold blocks at once.
    """

    def __init__(
        self, blocks: int, block_size: int, *, budget: int = 512, max_sequences: int = 64
    ) -> None:
        if min(blocks, block_size, max_sequences) < 1 or budget < max_sequences:
            raise InputError(
                f"no schedule with {blocks} blocks of {block_size}, a budget of {budget} tokens"
                f" and {max_sequences} sequences",
                remedy="all must be at least 1, and the budget at least a token per sequence",
            )
        self.budget = budget
        self.max_sequences = max_sequences
        self._pool = BlockPool(blocks, block_size)
        self._residency = Residency(self._pool, max_sequences)
        self._fair = self._residency.fair
        self._flight: list[tuple[SequenceState, Piece]] | None = None
        self._next_number = 0

    @property
    def preemptions(self) -> int:
        """How often a sequence had to give up its blocks and start again."""
        return self._residency.preemptions

    @property
    def running(self) -> int:
        """How many sequences hold blocks."""
        return len(self._residency.running)

    @property
    def waiting(self) -> int:
        """How many sequences wait for their turn, pre-empted ones among them."""
        return len(self._residency.live) - len(self._residency.running)

    @property
    def free_blocks(self) -> int:
        """How many blocks no sequence holds."""
        return self._pool.available

    def cached(self, sequence: int) -> int:
        """How many tokens were found in remembered blocks when it was last admitted."""
        return self._residency.get(sequence).cached

    def submit(
        self,
        tokens: Sequence[int],
        *,
        limit: int,
        client: str = "",
        scope: Scope = (),
        logits_from: int = -1,
    ) -> int:
        """Queue a sequence that may grow to ``limit`` tokens; its number.

        ``scope`` keeps its blocks from those of other scopes.  ``logits_from`` indexes ``tokens``:
        from there on the logits after every token are asked for (0 for the whole prompt; default:
        after the last).  Raises InputError for what can never be computed.
        """
        if not tokens or not -len(tokens) <= logits_from < len(tokens):
            raise InputError(
                f"{len(tokens)} tokens with logits from {logits_from}",
                remedy="give at least one token, and an index of one of them",
            )
        self._check_limit(len(tokens), limit)
        sequence = SequenceState(
            number=self._next_number,
            client=client,
            scope=scope,
            tokens=list(tokens),
            limit=limit,
            wanted=logits_from % len(tokens),
        )
        return self._enter(sequence)

    def fork(self, parent: int, keep: int, tokens: Sequence[int], limit: int = 0) -> int:
        """A new sequence: the parent's first ``keep`` tokens, then ``tokens``; its number.

        What the parent has computed is shared; the block that both would write is copied in the
        step where the first of them writes it.  ``limit`` is by default the parent's.
        """
        origin = self._residency.get(parent)
        if not 0 <= keep <= len(origin.tokens) or not keep + len(tokens):
            raise InputError(
                f"cannot keep {keep} of {len(origin.tokens)} tokens and add {len(tokens)}",
                remedy="keep at most what there is, and at least one token in all",
            )
        limit = limit or origin.limit
        length = keep + len(tokens)
        self._check_limit(length, limit)
        computed = min(keep, origin.computed, length - 1)
        child = SequenceState(
            number=self._next_number,
            client=origin.client,
            scope=origin.scope,
            tokens=[*origin.tokens[:keep], *tokens],
            limit=limit,
            wanted=length - 1,
            computed=computed,
            table=origin.table[: self._pool.needed(computed)],
        )
        for block in child.table:
            self._pool.share(block)
        return self._enter(child)

    def draft(self, sequence: int, tokens: Sequence[int]) -> None:
        """Guess what follows the sequence's tokens, for the next step.

        As many as budget, blocks and limit allow are computed behind its pending token, with the
        logits after each (``Piece.rows`` says how many).  ``commit`` keeps those that were drawn.
        """
        self._residency.get(sequence).draft = tuple(tokens)

    def cancel(self, sequence: int) -> None:
        """Forget a sequence and free its blocks, at any time; one already gone is no error."""
        state = self._residency.live.get(sequence)
        if state is not None:
            self._residency.end(state)

    def finish(self, sequence: int) -> None:
        """The sequence is complete.  Raises FledgeError when it is not there."""
        self._residency.end(self._residency.get(sequence))

    def plan(self) -> Step | None:
        """The next step, to be followed by ``commit``; None when there is nothing to do."""
        if self._flight is not None:
            raise FledgeError("a step is planned already", remedy="commit it first")
        residency = self._residency
        copies = residency.reserve()
        if residency.waiting:
            residency.make_room()
        pieces = self._decode()
        self._prefill(pieces, self.budget - sum(len(piece.tokens) for piece in pieces))
        if not pieces:
            return None
        live = residency.live
        self._flight = [(live[piece.sequence], piece) for piece in pieces]
        return Step(tuple(pieces), tuple(copies))

    def commit(self, drawn: Mapping[int, Sequence[int]]) -> None:
        """The planned step was computed, and these tokens were drawn from its logits.

        Every live sequence whose piece reached its last token must have an entry: tokens that
        follow, or none when it has ended.  Several are drawn where a draft was accepted or where
        the next ones are forced; of a draft, what agrees with them needs no computing again.
        """
        self._check_drawn(drawn)
        residency = self._residency
        flight, self._flight = self._flight or [], None
        for sequence, piece in flight:
            if sequence.number not in residency.live:
                continue
            known = len(sequence.tokens)
            end = piece.start + len(piece.tokens)
            if end < known:
                sequence.computed = end
                sequence.wanted = max(sequence.wanted, end)
                residency.remember(sequence, piece.start)
                continue
            new = drawn[sequence.number]
            accepted = _agreeing(piece.tokens[known - piece.start :], new) if end > known else 0
            sequence.computed = known + accepted
            sequence.tokens += new
            sequence.wanted = len(sequence.tokens) - 1
            sequence.draft = ()
            residency.remember(sequence, piece.start)
            if end > known:
                residency.trim(sequence)
            if not new:
                residency.end(sequence)

    # -- planning ------------------------------------------------------------------------------

    def _decode(self) -> list[Piece]:
        """A piece for every sequence with one pending token, and its draft as far as it fits."""
        residency = self._residency
        ready = [s for s in residency.running if len(s.tokens) - s.computed == 1]
        spare = self.budget - len(ready)
        if len(ready) < len(residency.live):
            spare //= 2  # the other half is for those that prefill
        pieces = []
        for sequence in ready:
            if sequence.draft:
                sequence.draft = residency.stretch(sequence, spare)
                spare -= len(sequence.draft)
            pieces.append(self._piece(sequence, 1, sequence.draft))
        return pieces

    def _prefill(self, pieces: list[Piece], spare: int) -> None:
        """Add pieces of sequences with more to read, the least served client's first."""
        residency = self._residency
        if len(pieces) == len(residency.live):
            return
        admit = True
        filling: dict[str, list[SequenceState]] = {}
        for sequence in residency.running:
            if sequence.pending > 1:
                filling.setdefault(sequence.client, []).append(sequence)
        while spare > 0 and (filling or (admit and residency.waiting)):
            client = self._fair.first([*filling, *(residency.waiting if admit else ())])
            if client in filling:
                chosen = filling[client].pop(0)
                if not filling[client]:
                    del filling[client]
            elif admitted := residency.admit(client):
                chosen = admitted
            else:
                admit = False
                continue
            count = min(spare, chosen.pending)
            pieces.append(self._piece(chosen, count, ()))
            spare -= count

    def _piece(self, sequence: SequenceState, count: int, draft: tuple[int, ...]) -> Piece:
        """The next ``count`` tokens and a draft, charged to the client."""
        start = sequence.computed
        if count == 1:
            tokens = (sequence.tokens[start], *draft)
        else:
            tokens = (*sequence.tokens[start : start + count], *draft)
        self._fair.charge(sequence.client, len(tokens))
        wanted = sequence.wanted - start - len(tokens)  # never before the first of the tokens
        return Piece(
            sequence=sequence.number,
            tokens=tokens,
            start=start,
            blocks=sequence.table,
            scope=sequence.scope,
            wants_logits=wanted < 0,
            logits_from=wanted if wanted < 0 else -1,
        )

    # -- checks ------------------------------------------------------------------------------------

    def _check_drawn(self, drawn: Mapping[int, Sequence[int]]) -> None:
        """Raise FledgeError unless ``drawn`` answers what was planned; nothing is changed yet."""
        if self._flight is None:
            raise FledgeError("no step is planned", remedy="plan one before committing")
        live = self._residency.live
        asked = set()
        for sequence, piece in self._flight:
            end = piece.start + len(piece.tokens)
            if sequence.number in live and end >= len(sequence.tokens):
                asked.add(sequence.number)
                new = drawn.get(sequence.number)
                if new is None or len(sequence.tokens) + len(new) > sequence.limit:
                    raise FledgeError(
                        f"sequence {sequence.number} has {len(sequence.tokens)} tokens of"
                        f" {sequence.limit} and was given {new}",
                        remedy="draw at least one token within the limit, or [] to end it",
                    )
        if len(asked) < len(drawn):
            idle = [n for n in drawn if n in live and n not in asked]
            if idle:
                raise FledgeError(f"sequences {idle} asked for no token in this step")

    def _enter(self, sequence: SequenceState) -> int:
        self._next_number += 1
        self._residency.enter(sequence)
        return sequence.number

    def _check_limit(self, length: int, limit: int) -> None:
        """Raise InputError unless a sequence of that limit fits when it is alone."""
        if limit < length:
            raise InputError(f"{length} tokens are more than the limit of {limit}")
        most = self._pool.total * self._pool.size
        if limit > most:
            raise InputError(
                f"a sequence of up to {limit} tokens does not fit the {most} positions"
                f" of all {self._pool.total} KV blocks",
                remedy="shorten the prompt, ask for fewer tokens, or give the engine more blocks",
            )


def _agreeing(draft: Sequence[int], drawn: Sequence[int]) -> int:
    """How many tokens of a computed draft stay: the last drawn token is always computed anew."""
    count = 0
    for guess, token in zip(draft, drawn[:-1], strict=False):
        if guess != token:
            break
        count += 1
    return count
