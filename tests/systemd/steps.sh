# What is seen working, in order; each step is a function that ends with an error when something is
# not so. They build on one another. Sourced by `run`, which has booted the machine.

STEPS="
installs_and_is_ready
answers_a_question_from_the_service
sees_an_edit
logs_to_the_journal_with_fields
answers_again_after_a_kill
restarts_lose_no_question
the_watchdog_ends_a_hang
reloads_a_good_config_and_survives_a_broken_one
a_question_starts_a_stopped_service
an_upgrade_in_place_fails_no_question
goes_with_the_session_unless_lingering
nothing_is_left_of_a_build_after_a_crash
bad_input_is_said
uninstall_leaves_nothing
"

UNIT=knhk-test-cache.service
PROJECT=/home/$MACHINE_USER/project

# Puts a binary where the developer's PATH finds it, whole at once, as a package manager does.
place_binary() {
    local bin=$MACHINE_DIR/root/home/$MACHINE_USER/bin
    mkdir -p "$bin"
    install -m 755 "$1" "$bin/.new"
    chown -R "$MACHINE_UID:$MACHINE_UID" "$bin"
    mv "$bin/.new" "$bin/knhk-test-cache"
}

# A workspace without dependencies: the machine has no network.
make_project() {
    local root=$MACHINE_DIR/root$PROJECT
    mkdir -p "$root/src"
    printf '[package]\nname = "sample"\nversion = "0.1.0"\nedition = "2021"\n' >"$root/Cargo.toml"
    chown -R "$MACHINE_UID:$MACHINE_UID" "$root"
    write_source 2
    as_user cargo generate-lockfile --offline --manifest-path "$PROJECT/Cargo.toml"
}

write_source() {
    printf 'pub fn two() -> i32 { %s }\n#[test]\nfn it_is_two() { assert_eq!(two(), 2); }\n' "$1" |
        as_user tee "$PROJECT/src/lib.rs" >/dev/null
}

knhk() { as_user knhk-test-cache "$@"; }
ask() { as_user env -C "$PROJECT" knhk-test-cache test "$@"; }
show() { as_user systemctl --user show --value --property "$1" "$UNIT"; }
active() { [ "$(show ActiveState)" = active ]; }
ended() { [ "$(show ActiveState)" != active ]; }

# The status of a command that is expected to fail.
status_of() {
    local status=0
    "$@" >&2 || status=$?
    echo "$status"
}

# A negated command does not end a step: this does.
refute() {
    if "$@"; then
        echo "did not expect: $*"
        return 1
    fi
}

expect() {
    [ "$1" = "$2" ] || { echo "expected «$2», got «$1» (line ${BASH_LINENO[0]})"; return 1; }
}

installs_and_is_ready() {
    knhk install --dry-run "$PROJECT"
    refute as_user test -e .config/systemd
    knhk install "$PROJECT"
    active
    expect "$(show Type)" notify
    expect "$(show UnitFileState)" enabled
    as_user systemd-analyze --user verify ".config/systemd/user/$UNIT"
    knhk install "$PROJECT"
    active
}

answers_a_question_from_the_service() {
    ask
    ask --format json | tail -n 1 | grep -q '"source":"cache"'
}

sees_an_edit() {
    write_source 3
    expect "$(status_of ask)" 101
    write_source 2
    ask
}

logs_to_the_journal_with_fields() {
    as_user journalctl --user -u knhk-test-cache "F_PROJECT=$PROJECT" --no-pager -o cat | grep -q .
    knhk logs | grep -q .
    # Nobody's standard error but the journal's: the same lines do not come twice.
    as_user journalctl --user -u knhk-test-cache PRIORITY=6 --no-pager -o cat | grep -q .
}

answers_again_after_a_kill() {
    local before
    before=$(show MainPID)
    in_machine kill -KILL "$before"
    ask
    wait_for 10 active
    [ "$(show MainPID)" != "$before" ]
}

# Asks without pause until the file `stop` appears; a line for each question that failed.
ask_on() {
    rm -f "$MACHINE_DIR/stop" "$MACHINE_DIR/lost"
    local count=0
    while [ ! -e "$MACHINE_DIR/stop" ]; do
        ask >/dev/null 2>>"$MACHINE_DIR/lost.text" || echo lost >>"$MACHINE_DIR/lost"
        count=$((count + 1))
    done
    echo "$count questions"
    [ ! -e "$MACHINE_DIR/lost" ] || { cat "$MACHINE_DIR/lost.text"; return 1; }
}

while_asking() {
    ask_on &
    local asker=$! status=0
    "$@" || status=$?
    touch "$MACHINE_DIR/stop"
    wait "$asker"
    return "$status"
}

restart_often() {
    local round
    for round in $(seq 100); do
        as_user systemctl --user restart "$UNIT" || { echo "restart $round"; return 1; }
    done
}

restarts_lose_no_question() { while_asking restart_often; }

the_watchdog_ends_a_hang() {
    local before
    before=$(show MainPID)
    in_machine kill -STOP "$before"
    another_runs() { [ "$(show MainPID)" != "$before" ] && active; }
    wait_for 60 another_runs
    ask
}

reloads_a_good_config_and_survives_a_broken_one() {
    local config=/home/$MACHINE_USER/.config/knhk-test-cache/config.toml before
    before=$(show MainPID)
    as_user systemctl --user reload "$UNIT"
    as_user cp "$config" "$config.good"
    echo 'this is [ not toml' | as_user tee "$config" >/dev/null
    as_user systemctl --user reload "$UNIT" || true
    active
    as_user cp "$config.good" "$config"
    as_user rm "$config.good"
    as_user systemctl --user reload "$UNIT"
    ask
    expect "$(show MainPID)" "$before"
}

a_question_starts_a_stopped_service() {
    knhk stop
    ended
    as_user test -S "/run/user/$MACHINE_UID/knhk-test-cache/control.sock"
    ask
    wait_for 10 active
    knhk restart
    active
}

upgrade() {
    # Called where `set -e` does not hold.
    place_binary "$newer" && knhk install "$PROJECT"
}

an_upgrade_in_place_fails_no_question() {
    local before
    before=$(show MainPID)
    while_asking upgrade
    active
    [ "$(show MainPID)" != "$before" ]
}

no_user_manager() { ! in_machine systemctl --quiet is-active "user@$MACHINE_UID.service"; }

goes_with_the_session_unless_lingering() {
    machine_login
    machine_logout
    active
    # The last session goes, and with it the manager (after UserStopDelaySec, 10 s).
    in_machine loginctl disable-linger "$MACHINE_USER"
    wait_for 30 no_user_manager
    refute in_machine pgrep -u "$MACHINE_USER" -f 'knhk-test-cache daemon'
    machine_login
    wait_for 30 active
    machine_logout
    wait_for 30 no_user_manager
    in_machine loginctl enable-linger "$MACHINE_USER"
    wait_for 30 as_user systemctl --user show -p Version
    wait_for 30 active
    ask
}

# Processes in the service's control group that were there before and still are.
nothing_is_left_of_a_build_after_a_crash() {
    printf 'fn main() { std::thread::sleep(std::time::Duration::from_secs(600)); }\n' |
        as_user tee "$PROJECT/build.rs" >/dev/null
    as_user touch "$PROJECT/src/lib.rs"
    building() { in_machine pgrep -u "$MACHINE_USER" -f build-script-build; }
    wait_for 60 building
    in_machine kill -KILL "$(show MainPID)"
    as_user rm "$PROJECT/build.rs"
    not_building() { ! building; }
    wait_for 20 not_building
    wait_for 20 active
    ask
}

bad_input_is_said() {
    local unit=/home/$MACHINE_USER/.config/systemd/user/$UNIT text
    # No bus: a message of its own, and a status that is neither success nor "tests failed".
    text=$(as_user env -u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS knhk-test-cache start 2>&1) && return 1
    echo "$text" | grep -q 'XDG_RUNTIME_DIR'
    # A unit that was changed by hand is kept.
    as_user sed -i 's/^Nice=.*/Nice=7/' "$unit"
    knhk install "$PROJECT" 2>&1 | grep -q 'by hand'
    as_user grep -q '^Nice=7' "$unit"
    knhk install --force "$PROJECT"
    as_user grep -q '^Nice=10' "$unit"
    # A program that moved.
    as_user mv bin/knhk-test-cache bin/moved
    text=$(as_user bin/moved restart 2>&1) && return 1
    echo "$text" | grep -q 'moved'
    as_user mv bin/moved bin/knhk-test-cache
    knhk restart
    knhk doctor || true
    # A mask.
    knhk uninstall
    as_user systemctl --user mask "$UNIT"
    text=$(knhk install "$PROJECT" 2>&1) && return 1
    echo "$text" | grep -q 'unmask'
    as_user systemctl --user unmask "$UNIT"
    # A stale socket file.
    as_user mkdir -p -m 700 "/run/user/$MACHINE_UID/knhk-test-cache"
    as_user python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('/run/user/$MACHINE_UID/knhk-test-cache/control.sock')" || true
    knhk install "$PROJECT"
    ask
}

uninstall_leaves_nothing() {
    knhk uninstall
    knhk uninstall
    refute in_machine pgrep -u "$MACHINE_USER" -f knhk-test-cache
    refute as_user test -e .config/systemd
    refute as_user test -e "/run/user/$MACHINE_UID/knhk-test-cache"
    as_user test -e .config/knhk-test-cache/config.toml
    knhk uninstall --purge
    refute as_user test -e .config/knhk-test-cache
    refute as_user test -e .cache/knhk-test-cache
}
