# Run on the host by its own timer when nobody disarmed it: the harness has lost this host since a risky step, so the
# step is taken back. What is done goes to the kernel log. $1: file that is there while it is armed   $2: BDF
# $3: its driver or ""   $4: 1 when the host may be rebooted
armed=$1 device=/sys/bus/pci/devices/$2 run=${1%/*} drivers=/sys/bus/pci/drivers
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
say() { echo "maskall: dead-man timer: $1" >/dev/kmsg; }
# Who is asked may be dead, and then says nothing for ever.
ask() { timeout 20 "$@" 2>/dev/null; }
# Whoever goes back waits for this lock: nobody undoes while this does.
{ command exec 8>>"$run/work"; } 2>/dev/null && flock -s -w 10 8
# unlink(2) succeeds once: either it is disarmed, or this is the one that strikes.
rm "$armed" 2>/dev/null || exit 0
if [ -n "$3" ] && [ "$device/driver" -ef "$drivers/$3" ]; then
    read -r override <"$device/driver_override"
    [ "$override" != pciback ] || echo >"$device/driver_override"
    say "$3 has $2, as before"
    exit 0
fi
if [ -e "$device/driver" ] && ! [ "$device/driver" -ef "$drivers/pciback" ]; then
    say "a driver that was not bound by us has $2, it stays there"
    exit 0
fi
# Without an answer nobody has said that it is no domain's, or that the domain is gone.
owner=$(ask xenstore-read "/libxl/pci/$(echo "$2" | sed 's/[:.]/-/g')/domid") || ask xenstore-list / >/dev/null ||
    owner=$(grep -sx xen /sys/hypervisor/type)
if [ -n "$owner" ] && { ask xl list "$owner" || ! ask xl list; } >/dev/null; then
    say "a domain has $2 now, or nobody says ($owner): it stays there"
    exit 0
fi
say "giving $2 back to ${3:-no driver}"
# By xl: it also takes the device from DOMID_IO, where its pci-assignable-add has put it and MSI and DMA are none of dom0's.
# -r: only then it forgets which driver it has taken it from (driver_path), as if it had never been assignable.
ask xl pci-assignable-remove ${3:+-r} "$2"
# Where xl failed pciback has it still; where its note was an older one, another driver than the device had.
{ [ -n "$3" ] && [ "$device/driver" -ef "$drivers/$3" ]; } || { echo "$2" >"$device/driver/unbind"; } 2>/dev/null
if [ -n "$3" ]; then
    echo "$3" >"$device/driver_override"
    echo "$2" >"$drivers/$3/bind"
fi
echo >"$device/driver_override"
bound=$(readlink "$device/driver")
[ "${bound##*/}" != "$3" ] && [ "$4" = 1 ] || exit 0
if domains=$(ask xl list); then
    # all but dom0, ours, and what is dead: a zombie has no name, and Xen has taken it apart
    others=$(echo "$domains" | sed -e 1d -e '/^Domain-0 /d' -e '/^maskall-/d' -e '/^(null) .*d  *[0-9.]*$/d')
else
    others=$(grep -sx xen /sys/hypervisor/type)
fi
if [ -n "$others" ]; then
    say "$2 did not go back; there are guests of others, or nobody says: it is not rebooted"
    exit 0
fi
say "$2 did not go back, rebooting"
reboot -f
