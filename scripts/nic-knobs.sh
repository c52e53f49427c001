# shellcheck shell=bash
# The knobs of a network interface, for scripts/nic-setup. Sourced, never run.
#
# Each knob has two functions, `read_KNOB` and `set_KNOB VALUE`. A value is the words that the kernel's tool takes, so
# what was saved can be given back as it is; `-` is a knob that the driver does not have. Of the caller: $interface,
# $sys (where interfaces have their files), $dry (`yes` prints commands), $answers and $complaint (files of its own).
# shellcheck disable=SC2154 # set where this is sourced
# shellcheck disable=SC2034 # used where this is sourced

# The order in which they are set; they are put back the other way round.
knobs=(channels spread hash key tcp4 udp4 tcp6 udp6 ring coalesce defer flush lro gro_hw vlan stag)
readonly flow_types=(tcp4 udp4 tcp6 udp6)
# Octets that a symmetric key repeats.
readonly key_octets=6d:5a

# A question to the driver: nothing where it has no answer. Answers are kept until something changes.
ask() {
    local answer="$answers/$*"
    [ -d "$answers" ] || mkdir "$answers"
    [ -e "$answer" ] || ethtool "$@" >"$answer" 2>/dev/null || true
    cat "$answer"
}

# A command that changes something, or its words. Complaints are kept for `change`: ethtool does not always say by its
# exit status that it was refused.
act() {
    if [ "$dry" = yes ]; then
        printf '    %s\n' "$*"
    elif [ "$1" = write ]; then
        { printf '%s\n' "$2" >"$3"; } 2>>"$complaint" || true
    else
        rm -rf -- "$answers"
        "$@" >>"$complaint" 2>&1 || printf 'exit status %s\n' "$?" >>"$complaint"
    fi
}

# section FIRST LAST: lines of standard input after the one that begins with FIRST, until one that begins with LAST.
section() { awk -v first="$1" -v last="$2" 'index($0, first) == 1 {on = 1; next} last != "" && index($0, last) == 1 {on = 0} on'; }

# words NAME=WORD...: of `Name:   value` lines, `WORD value` for each name that has one.
words() {
    awk -F ':[ \t]*' -v pairs="$(printf '%s;' "$@")" '
        {name = tolower($1); split($2, first, /[ \t]/); if (!(name in value)) value[name] = first[1]}
        END {
            n = split(pairs, pair, ";")
            for (i = 1; i < n; i++) {
                split(pair[i], side, "=")
                had = value[tolower(side[1])]
                if (had != "" && had != "n/a") text = text (text == "" ? "" : " ") side[2] " " had
            }
            print text == "" ? "-" : text
        }'
}

# value_of WORD VALUE: what follows the word in a value; 0 where it is not there.
value_of() { awk -v word="$1" '{for (i = 1; i < NF; i++) if ($i == word) {print $(i + 1); found = 1}} END {if (!found) print 0}' <<<"$2"; }

# differing NOW WANTED: the pairs of the second value that are not in the first. A driver may refuse a word that it does
# not know, though nothing about it is to change.
differing() {
    awk -v now="$1" '
        BEGIN {n = split(now, had); for (i = 1; i < n; i += 2) value[had[i]] = had[i + 1]}
        {for (i = 1; i < NF; i += 2) if (value[$i] != $(i + 1)) printf "%s %s ", $i, $(i + 1)}' <<<"$2"
}

channel_words=(RX=rx TX=tx Combined=combined)
read_channels() { ask -l "$interface" | section Current '' | words "${channel_words[@]}"; }
most_channels() { ask -l "$interface" | section Pre-set Current | words "${channel_words[@]}"; }
# shellcheck disable=SC2046 # values are words
set_channels() { act ethtool -L "$interface" $(differing "$(read_channels)" "$1"); }

# Receive queues of a value of `channels`.
queues_of() { echo $(($(value_of combined "$1") + $(value_of rx "$1"))); }

# The indirection table: `equal N` or `weight W...`, as ethtool makes it; `custom` is one that it cannot make again.
read_spread() {
    ask -x "$interface" | awk '
        /^RX flow hash indirection table/ {on = 1; next}
        on && /^ *[0-9]+: / {for (i = 2; i <= NF; i++) table[size++] = $i; next}
        {on = 0}
        END {
            if (size == 0) {print "-"; exit}
            for (i = 0; i < size; i++) if (table[i] + 1 > queues) queues = table[i] + 1
            for (i = 0; i < size; i++) {
                if (table[i] != i % queues) uneven = 1
                if (i > 0 && table[i] < table[i - 1]) disordered = 1
                count[table[i]]++
            }
            if (!uneven) {print "equal", queues; exit}
            if (disordered) {print "custom"; exit}
            text = "weight"
            for (i = 0; i < queues; i++) text = text " " count[i] + 0
            print text
        }'
}
# shellcheck disable=SC2086
set_spread() { act ethtool -X "$interface" $1; }

read_hash() {
    local name
    name=$(ask -x "$interface" | section 'RSS hash function:' '' | awk '$2 == "on" {sub(":", "", $1); print $1; exit}')
    echo "${name:--}"
}
set_hash() { act ethtool -X "$interface" hfunc "$1"; }

read_key() {
    local octets
    octets=$(ask -x "$interface" | section 'RSS hash key:' 'RSS hash function' | head -n 1 | tr -d '[:space:]')
    if [[ $octets =~ ^[0-9a-f]{2}(:[0-9a-f]{2})+$ ]]; then echo "$octets"; else echo -; fi
}
set_key() { act ethtool -X "$interface" hkey "$1"; }

# symmetric LENGTH: the key of so many octets.
symmetric() {
    local text=
    while [ $((${#text} / 3)) -lt "$1" ]; do text+=$key_octets:; done
    text=${text:0:$(($1 * 3))}
    echo "${text%:}"
}

# Letters of ethtool for the fields; `custom` where there is one that has no letter here, and `none`, which has no letter.
read_fields() {
    ask -n "$interface" rx-flow-hash "$1" | awk '
        /use these fields for computing Hash flow key:/ {on = 1; next}
        !on || /^[ \t]*$/ {next}
        /^None/ {text = "none"; exit}
        /^L2DA/ {text = text "m"; next}
        /^VLAN tag/ {text = text "v"; next}
        /^L3 proto/ {text = text "t"; next}
        /^IP SA/ {text = text "s"; next}
        /^IP DA/ {text = text "d"; next}
        /^L4 bytes 0 & 1/ {text = text "f"; next}
        /^L4 bytes 2 & 3/ {text = text "n"; next}
        {text = "custom"; exit}
        END {print text == "" ? "-" : text}'
}
set_fields() { act ethtool -N "$interface" rx-flow-hash "$1" "$2"; }
for flow_type in "${flow_types[@]}"; do
    eval "read_$flow_type() { read_fields $flow_type; }; set_$flow_type() { set_fields $flow_type \"\$1\"; }"
done

ring_words=(RX=rx TX=tx)
read_ring() { ask -g "$interface" | section Current '' | words "${ring_words[@]}"; }
most_ring() { ask -g "$interface" | section Pre-set Current | words "${ring_words[@]}"; }
# shellcheck disable=SC2046
set_ring() { act ethtool -G "$interface" $(differing "$(read_ring)" "$1"); }

read_coalesce() {
    # The first line has both: `Adaptive RX: off  TX: off`.
    ask -c "$interface" | sed 's/^\(Adaptive RX: [^ ]*\)  *TX: /\1\nAdaptive TX: /' |
        words 'Adaptive RX=adaptive-rx' 'Adaptive TX=adaptive-tx' rx-usecs=rx-usecs rx-frames=rx-frames \
            tx-usecs=tx-usecs tx-frames=tx-frames
}
# shellcheck disable=SC2046
set_coalesce() { act ethtool -C "$interface" $(differing "$(read_coalesce)" "$1"); }

read_file() { if [ -r "$sys/$interface/$1" ]; then echo "$(<"$sys/$interface/$1")"; else echo -; fi; }
read_defer() { read_file napi_defer_hard_irqs; }
set_defer() { act write "$1" "$sys/$interface/napi_defer_hard_irqs"; }
read_flush() { read_file gro_flush_timeout; }
set_flush() { act write "$1" "$sys/$interface/gro_flush_timeout"; }

# Offloads: `on` and `off`, and with ` fixed` what nobody can change.
read_feature() {
    ask -k "$interface" | awk -v name="$1:" '$1 == name {print $2 ($3 == "[fixed]" ? " fixed" : ""); found = 1} END {if (!found) print "-"}'
}
set_feature() { act ethtool -K "$interface" "$1" "$2"; }
read_lro() { read_feature large-receive-offload; }
set_lro() { set_feature lro "$1"; }
read_gro_hw() { read_feature rx-gro-hw; }
set_gro_hw() { set_feature rx-gro-hw "$1"; }
read_vlan() { read_feature rx-vlan-offload; }
set_vlan() { set_feature rxvlan "$1"; }
read_stag() { read_feature rx-vlan-stag-hw-parse; }
set_stag() { set_feature rx-vlan-stag-hw-parse "$1"; }
