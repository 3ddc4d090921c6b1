# The steps, in order. Each is a function that fails when something is wrong, and builds on the steps
# before. Sourced by `run`, which has booted the machine.

STEPS="
installs_and_is_ready
answers_a_question_from_the_service
sees_an_edit
tells_at_a_glance_how_it_is
logs_to_the_journal_with_fields
children_get_its_priorities_and_nothing_of_its_own
answers_again_after_a_kill
the_watchdog_ends_a_hang
reloads_a_good_config_and_survives_a_broken_one
a_question_starts_a_stopped_service
restarts_lose_no_question
starts_about_as_fast_as_a_trivial_service
how_exposed_it_is
an_upgrade_in_place_fails_no_question
goes_with_the_session_unless_lingering
nothing_is_left_of_a_build
"
# After the faults, which need an installed service.
LAST_STEPS="
uninstall_leaves_nothing
"

UNIT=knhk-test-cache.service
SOCKET=knhk-test-cache.socket
HOME_DIR=/home/$MACHINE_USER
PROJECT=$HOME_DIR/project
CONFIG=$HOME_DIR/.config/knhk-test-cache/config.toml
RUNTIME=/run/user/$MACHINE_UID/knhk-test-cache

# Puts a binary where the developer's PATH finds it, whole at once, as a package manager does.
place_binary() {
    local bin=$MACHINE_DIR/root$HOME_DIR/bin
    mkdir -p "$bin"
    install -m 755 "$1" "$bin/.new"
    chown -R "$MACHINE_UID:$MACHINE_UID" "$bin"
    mv "$bin/.new" "$bin/knhk-test-cache"
}

# A workspace without dependencies: the machine has no network.
make_project() {
    as_user mkdir -p "$1/src" .config .cache .local/state
    write "$1/Cargo.toml" '[package]\nname = "sample"\nversion = "0.1.0"\nedition = "2021"\n'
    write_source 2
    as_user cargo generate-lockfile --offline --manifest-path "$1/Cargo.toml"
}

# Writes a file as the developer; the text is printf's.
write() { printf "$2" | as_user tee "$1" >/dev/null; }
write_source() {
    write "$PROJECT/src/lib.rs" "pub fn two() -> i32 { $1 }\n#[test]\nfn it_is_two() { assert_eq!(two(), 2); }\n"
}

knhk() { as_user knhk-test-cache "$@"; }
ask() { as_user env -C "$PROJECT" knhk-test-cache test "$@"; }
user_systemctl() { as_user systemctl --user "$@"; }
show() { user_systemctl show --value --property "$1" "${2:-$UNIT}"; }
active() { [ "$(show ActiveState)" = active ]; }
ended() { [ "$(show ActiveState)" != active ]; }
status_says() { knhk status --format json | grep -q "$1"; }
idle() { status_says '"state":"idle"'; }

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

# A command's output must hold a text, and its status must be this.
refuses() {
    local status=$1 text=$2 said got=0
    shift 2
    said=$("$@" 2>&1) || got=$?
    echo "$said"
    expect "$got" "$status"
    case $said in *"$text"*) ;; *) echo "did not say «$text»: $*"; return 1 ;; esac
}

# Everything that could be left behind: files in the home except the developer's own, files in the
# system and at run time, and units of the manager.
traces() {
    (
        cd "$MACHINE_DIR/root"
        find ".$HOME_DIR" -path ".$PROJECT" -prune -o -path ".$HOME_DIR/.cargo" -prune -o -print
        find usr etc -xdev ! -type d -newer "$MACHINE_DIR/console" -print
    )
    as_user find "/run/user/$MACHINE_UID" -name '*knhk*' 2>/dev/null || true
    user_systemctl list-units --all --no-legend --plain '*knhk*' || true
    user_systemctl list-unit-files --no-legend '*knhk*' || true
    processes
}

# The developer's processes but those of the session itself.
processes() {
    # A guardian lives as long as the service that has started children.
    local hidden='(/lib/systemd/systemd|\(sd-pam\)|/usr/bin/dbus-daemon|\(systemd)' guardians=0
    if active; then
        guardians=$(in_machine pgrep -u "$MACHINE_USER" -x knhk-guardian | paste -sd '|' || true)
    fi
    in_machine pgrep -u "$MACHINE_USER" -a . | grep -Ev " $hidden" | grep -Ev "^(${guardians:-0}) " || true
}

installs_and_is_ready() {
    knhk install --dry-run "$PROJECT"
    refute as_user test -e .config/systemd
    knhk install "$PROJECT"
    active
    expect "$(show Type)" notify
    expect "$(show UnitFileState)" enabled
    expect "$(show ActiveState "$SOCKET")" active
    # What ready means: it answers, and knows the project.
    status_says '"running":true'
    status_says "\"path\":\"$PROJECT\""
    as_user systemd-analyze --user verify ".config/systemd/user/$UNIT"
    knhk install "$PROJECT"
    active
    knhk doctor
    knhk doctor --format json | grep -q '"name":"supervisor","status":"ok"'
}

answers_a_question_from_the_service() {
    ask
    ask --format json | tail -n 1 | grep -q '"source":"cache"'
    # The service itself was asked: it knows the verdict.
    status_says '"last_verdict":{[^}]*"verdict":"pass"'
}

sees_an_edit() {
    write_source 3
    expect "$(status_of ask)" 101
    write_source 2
    ask
}

tells_at_a_glance_how_it_is() {
    user_systemctl status "$UNIT" --no-pager --lines 0 | grep -q 'Status: "1 project'
    # What it does while it does it.
    write "$PROJECT/build.rs" 'fn main() { std::thread::sleep(std::time::Duration::from_secs(600)); }\n'
    building_is_told() { show StatusText | grep -q '^1 project, project: building'; }
    wait_for 30 building_is_told
    as_user rm "$PROJECT/build.rs"
    wait_for 30 idle
    # The manager is told a moment after whoever asks.
    idle_is_told() { [ "$(show StatusText)" = "1 project" ]; }
    wait_for 5 idle_is_told
}

logs_to_the_journal_with_fields() {
    journal() { as_user journalctl --user -u knhk-test-cache --no-pager -o cat "$@"; }
    journal "F_PROJECT=$PROJECT" | grep -q watching
    # Nothing is built ahead for a tree that is known to be green: this one is new.
    write "$PROJECT/notes.txt" 'a new tree\n'
    ready_is_told() { journal "F_PROJECT=$PROJECT" F_OUTCOME=pass | grep -q 'the tests are ready'; }
    wait_for 30 ready_is_told
    local hash
    hash=$(ask --format json | tail -n 1 | sed 's/.*"code_hash":"\([0-9a-f]*\)".*/\1/')
    journal "F_PROJECT=$PROJECT" "F_SNAPSHOT=$hash" | grep -q verdict
    journal "F_PROJECT=$PROJECT" -o json | grep -q '"F_DURATION":"[0-9]*"'
    # Information is information: not a notice, as tracing's own default has it.
    journal PRIORITY=6 | grep -q starting
    journal F_OUTCOME=pass | grep -q verdict
    # Each line comes once, from the program itself and not by way of its standard error.
    journal _TRANSPORT=journal SYSLOG_IDENTIFIER=knhk-test-cache | grep -q starting
    expect "$(journal _TRANSPORT=stdout SYSLOG_IDENTIFIER=knhk-test-cache)" ""
    knhk logs | grep -q starting
    (as_user timeout 2 knhk-test-cache logs -f || true) | grep -q starting
}

# The priority and the environment of a background build's build script.
children_get_its_priorities_and_nothing_of_its_own() {
    cat <<-'END' | as_user tee "$PROJECT/build.rs" >/dev/null
	use std::fs;
	fn main() {
	    let mut seen = String::new();
	    for (name, _) in std::env::vars_os() { seen += &format!("env {}\n", name.to_string_lossy()); }
	    for fd in fs::read_dir("/proc/self/fd").unwrap() {
	        let path = fd.unwrap().path();
	        seen += &format!("fd {}\n", fs::read_link(path).unwrap_or_default().display());
	    }
	    seen += &format!("oom {}", fs::read_to_string("/proc/self/oom_score_adj").unwrap());
	    let stat = fs::read_to_string("/proc/self/stat").unwrap();
	    seen += &format!("nice {}\n", stat.rsplit(')').next().unwrap().split(' ').nth(17).unwrap());
	    seen += &format!("cgroup {}", fs::read_to_string("/proc/self/cgroup").unwrap());
	    fs::write(std::env::var("OUT_DIR").unwrap() + "/seen", seen).unwrap();
	}
	END
    local seen=$MACHINE_DIR/seen
    look() { cat "$MACHINE_DIR/root$PROJECT"/target/debug/build/*/out/seen >"$seen"; }
    wait_for 30 look
    wait_for 30 idle
    as_user rm "$PROJECT/build.rs"
    cat "$seen"
    refute grep -E '^env (NOTIFY_SOCKET|WATCHDOG_|LISTEN_|JOURNAL_STREAM|INVOCATION_ID|SYSTEMD_EXEC_PID)' "$seen"
    refute grep -E '^fd (socket|anon_inode|.*knhk-test-cache)' "$seen"
    grep -qx 'oom 600' "$seen"
    # 10 of the unit, or more: background work lowers itself further.
    [ "$(sed -n 's/^nice //p' "$seen")" -ge 10 ]
    grep -q "^cgroup .*background.slice/$UNIT" "$seen"
    wait_for 30 idle
}

answers_again_after_a_kill() {
    local before
    before=$(show MainPID)
    in_machine kill -KILL "$before"
    ask
    wait_for 10 active
    refute expect "$(show MainPID)" "$before"
    ask --format json | tail -n 1 | grep -q '"source":"cache"'
}

# Asks without pause until `stop_asking`; counts questions, failures and answers without the service.
start_asking() {
    as_user rm -f asking.stop asking.count
    cat <<-'END' | as_user tee asking.sh >/dev/null
	cd project
	asked=0 lost=0 without=0
	while [ ! -e ../asking.stop ]; do
	    said=$(knhk-test-cache test 2>&1 >/dev/null) || { lost=$((lost + 1)); echo "$said" >&2; }
	    case $said in *'working without it'*) without=$((without + 1)); echo "$said" >&2 ;; esac
	    asked=$((asked + 1))
	done
	echo "asked=$asked lost=$lost without=$without" >../asking.count
	END
    as_user bash asking.sh &
    ASKING=$!
}

stop_asking() {
    as_user touch asking.stop
    wait "$ASKING"
    asked=0 lost=1 without=0
    . "$MACHINE_DIR/root$HOME_DIR/asking.count"
    as_user rm -f asking.sh asking.stop asking.count
    echo "$asked asked, $lost lost, $without without the service"
    [ "$asked" -gt 0 ] && [ "$lost" = 0 ]
}

the_watchdog_ends_a_hang() {
    local before
    before=$(show MainPID)
    in_machine kill -STOP "$before"
    # Nobody waits for it meanwhile.
    ask
    another_runs() { [ "$(show MainPID)" != "$before" ] && active; }
    wait_for 60 another_runs
    as_user journalctl --user -u knhk-test-cache --no-pager -o cat | grep -q -i watchdog
    ask
}

reloads_a_good_config_and_survives_a_broken_one() {
    local before
    before=$(show MainPID)
    as_user cp "$CONFIG" good.toml
    write "$CONFIG" '[defaults]\nttl = "2h"\n'
    user_systemctl reload "$UNIT"
    no_projects() { expect "$(show StatusText)" "no projects"; }
    wait_for 10 no_projects
    write "$CONFIG" 'this is [ not toml\n'
    user_systemctl reload "$UNIT"
    told() { show StatusText | grep -q 'the config does not parse'; }
    wait_for 10 told
    active
    status_says '"config_error":"'
    as_user cp good.toml "$CONFIG"
    as_user rm good.toml
    user_systemctl reload "$UNIT"
    mended() { expect "$(show StatusText)" "1 project"; }
    wait_for 10 mended
    ask
    expect "$(show MainPID)" "$before"
}

a_question_starts_a_stopped_service() {
    knhk stop
    ended
    as_user test -S "$RUNTIME/control.sock"
    # Looking is not asking.
    knhk doctor
    status_says '"running":false'
    ended
    ask
    wait_for 10 active
    knhk restart
    active
}

an_upgrade_in_place_fails_no_question() {
    local before version
    before=$(show MainPID)
    start_asking
    place_binary "$newer"
    knhk install
    stop_asking
    active
    refute expect "$(show MainPID)" "$before"
    version=$(knhk --version | cut -d' ' -f2)
    status_says "\"version\":\"$version\""
    as_user grep -q "version $version" ".config/systemd/user/$UNIT"
    figure "questions during an upgrade to $version in place" "$asked asked, $lost lost"
}

# The manager itself is reaped a moment after systemd calls it inactive.
nobody_is_left() { [ -z "$(processes)" ]; }
no_user_manager() { ! in_machine systemctl --quiet is-active "user@$MACHINE_UID.service"; }

goes_with_the_session_unless_lingering() {
    machine_login
    machine_logout
    active
    # The last session goes, and with it the manager.
    in_machine loginctl disable-linger "$MACHINE_USER"
    wait_for 30 no_user_manager
    wait_for 10 nobody_is_left
    machine_login
    wait_for 30 active
    machine_logout
    wait_for 30 no_user_manager
    in_machine loginctl enable-linger "$MACHINE_USER"
    wait_for 30 user_systemctl show -p Version
    wait_for 30 active
    ask
}

# Starts a background build that would take ten minutes, and waits until it runs.
long_build() {
    active || user_systemctl start "$UNIT"
    write "$PROJECT/build.rs" "// $1\nfn main() { std::thread::sleep(std::time::Duration::from_secs(600)); }\n"
    building() { in_machine pgrep -u "$MACHINE_USER" -f build-script-build; }
    wait_for 60 building
}

only_the_service() {
    local pid
    pid=$(show MainPID)
    [ -z "$(processes | grep -v "^$pid ")" ]
}

nothing_is_left_of_a_build() {
    long_build stop
    knhk stop
    expect "$(processes)" ""
    long_build crash
    in_machine kill -KILL "$(show MainPID)"
    # Nobody starts another: what is left is what the crash has left.
    as_user rm "$PROJECT/build.rs"
    wait_for 20 active
    wait_for 20 idle
    wait_for 5 only_the_service
    long_build uninstall
    knhk uninstall
    expect "$(processes)" ""
    as_user rm "$PROJECT/build.rs"
    knhk install
    wait_for 30 idle
    ask
    figure "processes left after stop, crash and uninstall in mid-build" 0
}

uninstall_leaves_nothing() {
    knhk uninstall
    knhk uninstall
    refute as_user test -e .config/systemd
    as_user test -e "$CONFIG"
    as_user test -e .cache/knhk-test-cache
    knhk uninstall --purge
    refute as_user test -e "$CONFIG"
    traces >"$MACHINE_DIR/after"
    diff "$MACHINE_DIR/before" "$MACHINE_DIR/after"
}
