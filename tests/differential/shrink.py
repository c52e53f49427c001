"""Makes a case that differs smaller, as long as it differs in the same way.

Delta debugging, changed in one respect: to ask the reference costs a boot, so every round asks for many candidates at
once and the candidates of all cases being shrunk share the boot. A shrinker is therefore a generator that yields lists
of candidates and is sent a list of truth values: `candidate still differs in the same way`.

**Invariant**: what a shrinker returns has been a candidate that differed, or is the case it began with.
"""

CANDIDATES_MAX = 48
ROUNDS_MAX = 24
# Cumulative removals tried after a round, as parts of all that could be removed alone.
PARTS = (1.0, 0.75, 0.5, 0.25)


def without_steps(case, gone):
    """The case without the steps of these numbers."""
    return dict(case, steps=[step for number, step in enumerate(case["steps"]) if number not in gone])


def word_atoms(case):
    """Parts of commands that can be left out: `(step, first word, last word + 1)`, or a line of standard input."""
    atoms = []
    for number, step in enumerate(case["steps"]):
        words = step.get("argv")
        if words and words[0].startswith("ipvsadm"):
            at = 1
            while at < len(words):
                end = at + 1
                while end < len(words) and words[at].startswith("-") and not words[end].startswith("-"):
                    end += 1
                if at > 1 or end < len(words):
                    atoms.append((number, "words", at, end))
                at = end
        if step.get("stdin"):
            atoms += [(number, "line", line) for line in range(len(step["stdin"].splitlines()))]
    return atoms


def without_words(case, gone):
    """The case without these atoms of `word_atoms`."""
    steps = []
    for number, step in enumerate(case["steps"]):
        words = {at for atom in gone if atom[0] == number and atom[1] == "words" for at in range(atom[2], atom[3])}
        lines = {atom[2] for atom in gone if atom[0] == number and atom[1] == "line"}
        if words:
            step = dict(step, argv=[word for at, word in enumerate(step["argv"]) if at not in words])
        if lines:
            kept = [line for at, line in enumerate(step["stdin"].splitlines(True)) if at not in lines]
            step = dict(step, stdin="".join(kept))
        steps.append(step)
    return dict(case, steps=steps)


def reduce(case, atoms, without, rounds):
    """Removes as many atoms as possible, in chunks that halve; a generator, see the module's head.

    `rounds` is a list of one number, the rounds that are left.
    """
    gone = set()
    size = max(1, len(atoms) // 2)
    while rounds[0] > 0:
        left = [atom for atom in atoms if atom not in gone]
        size = min(size, len(left))
        if size == 0:
            break
        chunks = [left[at : at + size] for at in range(0, len(left), size)]
        # From the end: later steps are least likely to matter to what comes before them.
        chunks.reverse()
        removable = []
        for at in range(0, len(chunks), CANDIDATES_MAX):
            part = chunks[at : at + CANDIDATES_MAX]
            rounds[0] -= 1
            holds = yield [without(case, gone | set(chunk)) for chunk in part]
            removable += [chunk for chunk, still in zip(part, holds) if still]
        if len(removable) > 1:
            counts = sorted({max(2, int(len(removable) * part)) for part in PARTS}, reverse=True)
            together = [set().union(*removable[:count]) for count in counts]
            rounds[0] -= 1
            holds = yield [without(case, gone | atoms_gone) for atoms_gone in together]
            best = next((atoms_gone for atoms_gone, still in zip(together, holds) if still), set(removable[0]))
            gone |= best
        elif removable:
            gone |= set(removable[0])
        if size > 1:
            size = max(1, size // 2)
        elif not removable:
            break
    return without(case, gone)


def shrink(case, last_step):
    """A generator that returns the smaller case. `last_step` is where the first difference was seen."""
    rounds = [ROUNDS_MAX]
    if last_step + 1 < len(case["steps"]):
        shorter = without_steps(case, set(range(last_step + 1, len(case["steps"]))))
        if (yield [shorter])[0]:
            case = shorter
    case = yield from reduce(case, list(range(len(case["steps"]))), without_steps, rounds)
    while True:
        atoms = word_atoms(case)
        smaller = yield from reduce(case, atoms, without_words, rounds)
        # Lines and words are numbered anew after a removal, so what is left is tried until nothing more goes.
        if smaller == case or rounds[0] <= 0:
            return smaller
        case = smaller


def weight(case):
    """What a reader has to read: steps, and words in them."""
    return len(case["steps"]) * 10 + len(word_atoms(case))


def drive(shrinkers, ask, out_of_time=lambda: False):
    """Runs shrinkers side by side: `{key: generator}` in, `{key: case}` out.

    `ask` gets a list of `(key, candidate)` and gives as many truth values; it is called once a round for all. A key
    whose shrinker is cut off by `out_of_time` has the smallest candidate that differed, or None.
    """
    results, waiting, smallest = {}, {}, {}

    def resume(key, shrinker, answer):
        try:
            waiting[key] = (shrinker, shrinker.send(answer))
        except StopIteration as end:
            results[key] = end.value

    for key, shrinker in shrinkers.items():
        resume(key, shrinker, None)
    while waiting and not out_of_time():
        current = dict(waiting)
        waiting.clear()
        answers = iter(ask([(key, candidate) for key, (_, batch) in current.items() for candidate in batch]))
        for key, (shrinker, batch) in current.items():
            holds = [next(answers) for _ in batch]
            for candidate, still in zip(batch, holds):
                if still and (key not in smallest or weight(candidate) < weight(smallest[key])):
                    smallest[key] = candidate
            resume(key, shrinker, holds)
    results.update({key: smallest.get(key) for key in waiting})
    return results
