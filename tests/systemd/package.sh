# The Debian package: installed, used, upgraded and removed without a trace. Sourced by `run`; the
# service is not installed before and after.

PACKAGE_STEPS="
a_package_brings_all_that_belongs
a_packages_service_is_used
a_packages_upgrade_restarts_the_service
a_package_goes_without_a_trace
"

in_package() { in_machine dpkg-query --listfiles knhk-test-cache | grep -qx "$1"; }

a_package_brings_all_that_belongs() {
    # From here on the developer has no copy of his own.
    as_user rm bin/knhk-test-cache
    traces >"$MACHINE_DIR/before"
    cp "$package" "$MACHINE_DIR/root/var/tmp/package.deb"
    in_machine dpkg --no-triggers --install /var/tmp/package.deb
    local file
    for file in bin/{knhk-test-cache,cargo-knhk} lib/systemd/user/{$UNIT,$SOCKET} \
        share/man/man1/knhk-test-cache.1.gz share/man/man1/knhk-test-cache-test.1.gz \
        share/bash-completion/completions/knhk-test-cache share/zsh/vendor-completions/_knhk-test-cache \
        share/fish/vendor_completions.d/knhk-test-cache.fish \
        share/doc/knhk-test-cache/{copyright,LICENSE-MIT,LICENSE-APACHE,examples/config.toml}; do
        in_package "/usr/$file" || { echo "no /usr/$file"; return 1; }
    done
    as_user systemd-analyze --user verify /usr/lib/systemd/user/$UNIT
    as_user bash -c '. /usr/share/bash-completion/completions/knhk-test-cache; complete -p knhk-test-cache'
    as_user knhk-test-cache --config-file /usr/share/doc/knhk-test-cache/examples/config.toml config check
}

a_packages_service_is_used() {
    user_systemctl daemon-reload
    knhk add "$PROJECT"
    user_systemctl enable --now "$UNIT"
    active
    expect "$(as_user readlink -f "/proc/$(show MainPID)/exe")" /usr/bin/knhk-test-cache
    ask
    ask --format json | tail -n 1 | grep -q '"source":"cache"'
    status_says '"last_verdict":{[^}]*"verdict":"pass"'
    # The background build finds the developer's cargo.
    write "$PROJECT/src/lib.rs" '#[test] fn it() { /* again */ }\n'
    built() { status_says '"last_build":{[^}]*"success":true'; }
    wait_for 30 built
    knhk doctor
}

a_packages_upgrade_restarts_the_service() {
    local before
    before=$(show MainPID)
    start_asking
    in_machine dpkg --no-triggers --install /var/tmp/package.deb
    restarted() { [ "$(show MainPID)" != "$before" ] && active; }
    wait_for 20 restarted
    stop_asking
}

a_package_goes_without_a_trace() {
    long_build removal
    in_machine dpkg --no-triggers --purge knhk-test-cache
    # Whoever used it has it running no more.
    expect "$(processes)" ""
    as_user rm "$PROJECT/build.rs"
    refute as_user test -e "$RUNTIME"
    # The developer's own: what he enabled, configured and recorded.
    user_systemctl disable "$UNIT" "$SOCKET" || true
    as_user rm -rf .config/knhk-test-cache .cache/knhk-test-cache
    as_user rmdir .config/systemd/user .config/systemd
    rm "$MACHINE_DIR/root/var/tmp/package.deb"
    traces >"$MACHINE_DIR/after"
    diff "$MACHINE_DIR/before" "$MACHINE_DIR/after"
}
