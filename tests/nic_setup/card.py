"""Stands in for ethtool; the test puts it on the path as that.

It keeps the settings of one card in $FAKE_CARD/card.json and logs its calls beside it. The file says what the card has; what it lacks is not supported. `refuse` maps an option (`-L`) to what the driver says
to it, `quiet` names options that are refused without a nonzero status, as ethtool does for hash fields, and `clamp`
are options for which the driver takes half of what is asked.
"""

import json
import os
import sys

PLACE = os.environ["FAKE_CARD"]
FIELDS = {"m": "L2DA", "v": "VLAN tag", "t": "L3 proto", "s": "IP SA", "d": "IP DA",
          "f": "L4 bytes 0 & 1 [TCP/UDP src port]", "n": "L4 bytes 2 & 3 [TCP/UDP dst port]", "e": "GTP TEID"}
FLOWS = {"tcp4": "TCP over IPV4", "udp4": "UDP over IPV4", "tcp6": "TCP over IPV6", "udp6": "UDP over IPV6"}


def fail(text="netlink error: Operation not supported", status=1):
    print(text, file=sys.stderr)
    sys.exit(status)


def pairs(words):
    return {words[at]: words[at + 1] for at in range(0, len(words), 2)}


def show_two(title, card, names):
    print(f"{title} parameters for {card['name']}:")
    for head, which in (("Pre-set maximums:", "most"), ("Current hardware settings:", "now")):
        print(head)
        for shown, word in names:
            print(f"{shown}:\t\t{card[which].get(word, 'n/a')}")
    print()


def show_coalesce(now):
    print(f"Coalesce parameters for x:\nAdaptive RX: {now.get('adaptive-rx', 'n/a')}  TX: {now.get('adaptive-tx', 'n/a')}")
    for word in ("stats-block-usecs", "rx-usecs", "rx-frames", "rx-usecs-irq", "tx-usecs", "tx-frames", "rx-usecs-low"):
        print(f"{word}: {now.get(word, 'n/a')}")


def show_spread(card):
    spread = card["rss"]
    print(f"RX flow hash indirection table for x with {queues(card)} RX ring(s):")
    for at in range(0, len(spread["table"]), 8):
        print(f"{at:5}: " + " ".join(f"{queue:5}" for queue in spread["table"][at : at + 8]))
    print("RSS hash key:\n" + (spread["key"] or "Operation not supported"))
    print("RSS hash function:")
    for name in ("toeplitz", "xor", "crc32"):
        print(f"    {name}: {'on' if name == spread['hash'] else 'off'}")


def queues(card):
    now = card["channels"]["now"]
    return int(now.get("combined", 0)) + int(now.get("rx", 0))


def default_table(card):
    return [at % queues(card) for at in range(len(card["rss"]["table"]))]


def set_channels(card, words):
    wanted = dict(card["channels"]["now"], **pairs(words))
    if any(int(number) > int(card["channels"]["most"][word]) for word, number in wanted.items()):
        fail("netlink error: requested channel count exceeds maximum")
    count = int(wanted.get("combined", 0)) + int(wanted.get("rx", 0))
    if card.get("rss") and card["rss"].get("configured") and max(card["rss"]["table"]) >= count:
        fail("netlink error: requested channel counts are too low for existing indirection table settings")
    card["channels"]["now"] = wanted
    if card.get("rss") and not card["rss"].get("configured"):
        card["rss"]["table"] = default_table(card)


def set_spread(card, words):
    spread = card["rss"]
    size = len(spread["table"])
    if words[0] == "default":
        spread["configured"] = False
        spread["table"] = default_table(card)
    elif words[0] == "equal":
        if int(words[1]) > queues(card):
            fail("Cannot set RX flow hash configuration: Invalid argument")
        spread["configured"] = True
        spread["table"] = [at % int(words[1]) for at in range(size)]
    elif words[0] == "weight":
        weights = [int(word) for word in words[1:]]
        spread["configured"] = True
        spread["table"] = [queue for queue, weight in enumerate(weights) for _ in range(weight)]
        assert len(spread["table"]) == size, "weights of this test sum up to the table"
    elif words[0] == "hkey":
        if len(words[1]) != len(spread["key"]):
            fail("Key is of wrong length")
        spread["key"] = words[1]
    elif words[0] == "hfunc":
        spread["hash"] = words[1]


def main():
    words = sys.argv[1:]
    with open(os.path.join(PLACE, "calls"), "a", encoding="ascii") as log:
        print(*words, file=log)
    path = os.path.join(PLACE, "card.json")
    with open(path, encoding="ascii") as file:
        card = json.load(file)
    option, _, *rest = words
    kind = {"l": "channels", "g": "ring", "c": "coalesce", "x": "rss", "n": "fields", "k": "features"}[option[1].lower()]
    if not card.get(kind):
        fail()
    if option.isupper() and option in card.get("refuse", {}):
        fail(card["refuse"][option], 0 if option in card.get("quiet", []) else 1)
    if option in card.get("clamp", []):
        rest = [str(int(word) // 2) if word.isdigit() else word for word in rest]
    if option == "-l":
        show_two("Channel", dict(card["channels"], name="x"), (("RX", "rx"), ("TX", "tx"), ("Other", "other"), ("Combined", "combined")))
    elif option == "-g":
        show_two("Ring", dict(card["ring"], name="x"), (("RX", "rx"), ("RX Mini", "mini"), ("RX Jumbo", "jumbo"), ("TX", "tx")))
    elif option == "-c":
        show_coalesce(card["coalesce"])
    elif option == "-x":
        show_spread(card)
    elif option == "-n":
        print(f"{FLOWS[rest[1]]} flows use these fields for computing Hash flow key:")
        print("\n".join(FIELDS[letter] for letter in card["fields"][rest[1]]) or "None")
        print()
    elif option == "-k":
        print("Features for x:")
        for name, value in card["features"].items():
            print(f"{name}: {value}")
    elif option == "-L":
        set_channels(card, rest)
    elif option == "-G":
        if any(int(number) > int(card["ring"]["most"][word]) for word, number in pairs(rest).items()):
            fail("netlink error: requested ring size exceeds maximum")
        card["ring"]["now"].update(pairs(rest))
    elif option == "-C":
        if any(word not in card["coalesce"] for word in pairs(rest)):
            fail()
        card["coalesce"].update(pairs(rest))
    elif option == "-X":
        set_spread(card, rest)
    elif option == "-N":
        card["fields"][rest[1]] = rest[2]
    elif option == "-K":
        long = {"lro": "large-receive-offload", "rxvlan": "rx-vlan-offload"}.get(rest[0], rest[0])
        card["features"][long] = rest[1]
    with open(path, "w", encoding="ascii") as file:
        json.dump(card, file)


main()
