# A throwaway machine with a real systemd, on an overlay of this one's root; sourced by `run`.
#
# Nothing is written to this machine's own root: the overlay's upper folder lies on a tmpfs of its
# own, and the container has its own processes, network and mounts. Everything that is started is
# ended by its process id.

# The folder of the machine, and the user in it.
MACHINE_DIR=
MACHINE_NSPAWN=
MACHINE_INIT=
MACHINE_USER=knhkdev
MACHINE_UID=4242

# The programs that the host must have. Installs them where possible; else names what is missing.
machine_requirements() {
    [ "$(id -u)" = 0 ] || { echo "needs root (an overlay and a container are made)"; return 1; }
    if ! command -v systemd-nspawn >/dev/null || [ ! -e /usr/share/doc/dbus-user-session ] ||
        [ ! -e /usr/share/doc/libpam-systemd ]; then
        command -v apt-get >/dev/null || { echo "needs systemd-nspawn, and no apt-get"; return 1; }
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
            systemd-container dbus-user-session libpam-systemd >/dev/null 2>&1 ||
            { apt-get update >/dev/null 2>&1 &&
                DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
                    systemd-container dbus-user-session libpam-systemd >/dev/null; } ||
            { echo "cannot install systemd-container, dbus-user-session, libpam-systemd"; return 1; }
    fi
    grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null ||
        { echo "the kernel has no overlay file system"; return 1; }
}

# Boots the machine and waits until its user's service manager answers.
machine_boot() {
    MACHINE_DIR=$(mktemp -d /var/tmp/knhk-machine.XXXXXX)
    mount -t tmpfs -o mode=0755,size=3g tmpfs "$MACHINE_DIR"
    mkdir "$MACHINE_DIR"/{upper,work,root,home}
    mount -t overlay overlay -o "lowerdir=/,upperdir=$MACHINE_DIR/upper,workdir=$MACHINE_DIR/work" \
        "$MACHINE_DIR/root"
    # A developer's files lie on a file system of their own, not on an overlay: those have odd inodes.
    mkdir -p "$MACHINE_DIR/root/home/$MACHINE_USER"
    mount --bind "$MACHINE_DIR/home" "$MACHINE_DIR/root/home/$MACHINE_USER"
    machine_furnish "$MACHINE_DIR/root"
    # No network but a loopback of its own: the machine's daemons must not touch ours.
    systemd-nspawn --directory="$MACHINE_DIR/root" --register=no --keep-unit --private-network \
        --machine="knhk-$$" --console=pipe --boot </dev/null >"$MACHINE_DIR/console" 2>&1 &
    MACHINE_NSPAWN=$!
    local tries
    for ((tries = 0; tries < 300; tries++)); do
        MACHINE_INIT=$(cut -d' ' -f1 "/proc/$MACHINE_NSPAWN/task/$MACHINE_NSPAWN/children" 2>/dev/null)
        if [ -n "$MACHINE_INIT" ] && [ "$(cat "/proc/$MACHINE_INIT/comm" 2>/dev/null)" = systemd ] &&
            in_machine systemctl is-system-running 2>/dev/null | grep -Eq 'running|degraded'; then
            break
        fi
        kill -0 "$MACHINE_NSPAWN" 2>/dev/null || { cat "$MACHINE_DIR/console"; return 1; }
        sleep 0.2
    done
    in_machine loginctl enable-linger "$MACHINE_USER" || { cat "$MACHINE_DIR/console"; return 1; }
    wait_for 30 as_user systemctl --user show -p Version >/dev/null
}

# Files that the machine has and the host has not: a user, a journal, a toolchain that the user can read.
machine_furnish() {
    local root=$1 unit sysroot folder
    [ -d "$root/lib/systemd/system" ] || { echo "no systemd in $root"; return 1; }
    grep -q "^$MACHINE_USER:" "$root/etc/passwd" || {
        echo "$MACHINE_USER:x:$MACHINE_UID:$MACHINE_UID::/home/$MACHINE_USER:/bin/bash" >>"$root/etc/passwd"
        echo "$MACHINE_USER:x:$MACHINE_UID:" >>"$root/etc/group"
        echo "$MACHINE_USER:*:19000:0:99999:7:::" >>"$root/etc/shadow"
    }
    mkdir -p "$root/home/$MACHINE_USER/.cargo/bin" "$root/var/log/journal"
    echo uninitialized >"$root/etc/machine-id"
    # Only what the tests need is to run: none of the host's own services, whatever pulls them in.
    rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/system/*.requires
    for unit in "$root"/lib/systemd/system-generators/*; do
        mkdir -p "$root/etc/systemd/system-generators"
        ln -sfn /dev/null "$root/etc/systemd/system-generators/$(basename "$unit")"
    done
    cat >"$root/etc/systemd/system/machine.target" <<-'END'
	[Unit]
	Requires=basic.target
	Wants=dbus.service systemd-logind.service systemd-user-sessions.service
	After=basic.target dbus.service systemd-logind.service systemd-user-sessions.service
	AllowIsolate=yes
	END
    ln -sfn machine.target "$root/etc/systemd/system/default.target"
    for unit in systemd-networkd.service systemd-resolved.service systemd-timesyncd.service \
        systemd-firstboot.service; do
        ln -sfn /dev/null "$root/etc/systemd/system/$unit"
    done
    # A manager goes a second after its user's last session, not ten.
    mkdir -p "$root/etc/systemd/logind.conf.d"
    printf '[Login]\nUserStopDelaySec=1\n' >"$root/etc/systemd/logind.conf.d/machine.conf"
    # The toolchain lies where a developer has it: in a folder that a service's PATH lacks.
    sysroot=$(rustc --print sysroot)
    for unit in cargo rustc rustdoc; do
        ln -sfn "$sysroot/bin/$unit" "$root/home/$MACHINE_USER/.cargo/bin/$unit"
    done
    folder=$sysroot
    while [ "$folder" != / ]; do
        chmod o+x "$root$folder"
        folder=$(dirname "$folder")
    done
    echo 'PATH="$HOME/.cargo/bin:$PATH"' >"$root/home/$MACHINE_USER/.profile"
    chown -R "$MACHINE_UID:$MACHINE_UID" "$root/home/$MACHINE_USER"
}

# Runs a command in the machine, as its root.
in_machine() {
    nsenter --target "$MACHINE_INIT" --all -- env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# Runs a command in the machine as the developer, with the variables of a login shell.
as_user() {
    in_machine setpriv --reuid "$MACHINE_UID" --regid "$MACHINE_UID" --clear-groups env -i -C "/home/$MACHINE_USER" \
        HOME="/home/$MACHINE_USER" USER="$MACHINE_USER" LOGNAME="$MACHINE_USER" SHELL=/bin/bash LANG=C.UTF-8 \
        PATH="/home/$MACHINE_USER/.cargo/bin:/home/$MACHINE_USER/bin:/usr/local/bin:/usr/bin:/bin" \
        XDG_RUNTIME_DIR="/run/user/$MACHINE_UID" \
        DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$MACHINE_UID/bus" "$@"
}

# A login session that lasts until `machine_logout`; lingering is what keeps services beyond it.
machine_login() {
    in_machine systemd-run --quiet --unit=login-session --property=PAMName=login \
        --property="User=$MACHINE_USER" --property=Type=simple sleep infinity
    wait_for 30 machine_has_session
    wait_for 30 as_user systemctl --user show -p Version >/dev/null
}

machine_has_session() { in_machine loginctl list-sessions --no-legend | grep -qw "$MACHINE_USER"; }

machine_logout() {
    in_machine systemctl stop login-session.service
}

# Repeats a command until it succeeds, for at most so many seconds.
wait_for() {
    local until=$((SECONDS + $1))
    shift
    until "$@" 2>/dev/null; do
        [ "$SECONDS" -lt "$until" ] || { echo "gave up waiting for: $*" >&2; return 1; }
        sleep 0.1
    done
}

# Ends the machine: asked first, killed after ten seconds, and unmounted.
machine_end() {
    local tries
    if [ -n "$MACHINE_NSPAWN" ]; then
        kill -TERM "$MACHINE_NSPAWN" 2>/dev/null
        for ((tries = 0; tries < 100; tries++)); do
            kill -0 "$MACHINE_NSPAWN" 2>/dev/null || break
            sleep 0.1
        done
        if kill -0 "$MACHINE_NSPAWN" 2>/dev/null; then
            [ -z "$MACHINE_INIT" ] || kill -KILL "$MACHINE_INIT" 2>/dev/null
            kill -KILL "$MACHINE_NSPAWN" 2>/dev/null
        fi
        wait "$MACHINE_NSPAWN" 2>/dev/null
        MACHINE_NSPAWN=
    fi
    if [ -n "$MACHINE_DIR" ]; then
        umount "$MACHINE_DIR/root/home/$MACHINE_USER" 2>/dev/null
        umount "$MACHINE_DIR/root" 2>/dev/null || umount -l "$MACHINE_DIR/root" 2>/dev/null
        umount "$MACHINE_DIR" 2>/dev/null || umount -l "$MACHINE_DIR" 2>/dev/null
        rmdir "$MACHINE_DIR" 2>/dev/null
        MACHINE_DIR=
    fi
}
