# Faults around the service: each gives a message and an exit status of its own and leaves nothing
# half done. Sourced by `run`; the service is installed before and after each.

FAULTS="
no_bus_is_said
no_systemd_is_said
a_unit_changed_by_hand_is_kept
a_program_that_moved_is_said
another_copy_is_not_replaced_unasked
a_mask_is_said
a_read_only_config_folder_is_said
a_stale_socket_is_replaced
a_config_without_projects_is_fine
a_start_that_fails_leaves_nothing_half_installed
"

no_bus_is_said() {
    bare() { as_user env -u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS knhk-test-cache "$@"; }
    refuses 7 "export XDG_RUNTIME_DIR=/run/user/$MACHINE_UID" bare start
    refuses 7 "export XDG_RUNTIME_DIR=/run/user/$MACHINE_UID" bare install "$PROJECT"
    refuses 8 "supervisor" bare doctor
    active
}

no_systemd_is_said() {
    # As in a container: the same files, but nobody has booted.
    booted_by_nobody() {
        in_machine unshare --mount sh -c 'mount -t tmpfs none /run && exec "$@"' sh \
            setpriv --reuid "$MACHINE_UID" --regid "$MACHINE_UID" --clear-groups \
            env -C "$PROJECT" HOME="$HOME_DIR" PATH="$HOME_DIR/.cargo/bin:$HOME_DIR/bin:/usr/bin:/bin" \
            sh -ec "$1"
    }
    refuses 7 "knhk-test-cache start" booted_by_nobody "knhk-test-cache install $PROJECT"
    # The question needs none of it.
    booted_by_nobody "knhk-test-cache test"
    booted_by_nobody "knhk-test-cache start; knhk-test-cache test; knhk-test-cache stop"
    active
}

a_unit_changed_by_hand_is_kept() {
    local unit=.config/systemd/user/$UNIT
    as_user sed -i 's/^Nice=.*/Nice=7/' "$unit"
    refuses 0 "by hand" knhk install
    as_user grep -q '^Nice=7' "$unit"
    refuses 0 "by hand" knhk doctor
    knhk install --force
    as_user grep -q '^Nice=10' "$unit"
}

a_program_that_moved_is_said() {
    as_user mkdir moved
    as_user mv bin/knhk-test-cache moved/knhk-test-cache
    refuses 7 "has moved" as_user moved/knhk-test-cache restart
    refuses 8 "has moved" as_user moved/knhk-test-cache doctor
    # From where it is now, it is healed.
    as_user moved/knhk-test-cache install
    expect "$(as_user readlink -f "/proc/$(show MainPID)/exe")" "$HOME_DIR/moved/knhk-test-cache"
    as_user mv moved/knhk-test-cache bin/knhk-test-cache
    as_user rmdir moved
    knhk install
    active
}

another_copy_is_not_replaced_unasked() {
    as_user mkdir other
    as_user cp bin/knhk-test-cache other/knhk-test-cache
    # Another build: the same program but for its last byte.
    printf x | as_user tee -a other/knhk-test-cache >/dev/null
    local before
    before=$(show MainPID)
    refuses 7 "install --force" as_user other/knhk-test-cache install
    expect "$(show MainPID)" "$before"
    refuses 0 "copies" as_user other/knhk-test-cache doctor
    as_user other/knhk-test-cache install --force
    refute expect "$(show MainPID)" "$before"
    knhk install --force
    as_user rm -r other
    active
}

a_mask_is_said() {
    knhk uninstall
    user_systemctl mask "$UNIT"
    refuses 7 "systemctl --user unmask $UNIT" knhk install
    refuses 7 "systemctl --user unmask $UNIT" knhk start
    refute as_user test -e ".config/systemd/user/$SOCKET"
    user_systemctl unmask "$UNIT"
    knhk install
}

a_read_only_config_folder_is_said() {
    knhk uninstall
    as_user mkdir -p .config/systemd
    as_user chmod 555 .config/systemd
    refuses 1 "make it writable" knhk install
    expect "$(processes)" ""
    expect "$(show LoadState)" not-found
    as_user chmod 755 .config/systemd
    knhk install
}

a_stale_socket_is_replaced() {
    knhk uninstall
    as_user bash -c 'knhk-test-cache daemon 2>daemon.log & echo $! >daemon.pid'
    listens() { status_says '"running":true'; }
    wait_for 20 listens
    # Installed beside a daemon that somebody runs by hand, it could only fail.
    as_user bash -c 'kill -KILL $(cat daemon.pid); rm daemon.pid daemon.log'
    as_user test -S "$RUNTIME/control.sock"
    refute listens
    ask
    knhk install
    listens
    ask
}

a_config_without_projects_is_fine() {
    as_user cp "$CONFIG" good.toml
    write "$CONFIG" ''
    knhk restart
    expect "$(show StatusText)" "no projects"
    ask
    knhk doctor
    as_user mv good.toml "$CONFIG"
    knhk restart
    expect "$(show StatusText | cut -d, -f1)" "1 project"
}

# The daemon refuses a runtime folder that others may enter.
a_start_that_fails_leaves_nothing_half_installed() {
    knhk uninstall
    as_user mkdir -p "$RUNTIME"
    as_user chmod 755 "$RUNTIME"
    refuses 7 "chmod 700" knhk install
    expect "$(show LoadState)" not-found
    refute as_user test -e .config/systemd
    expect "$(processes)" ""
    knhk install
}
