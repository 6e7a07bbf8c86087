# Run on the host by its own timer when nobody disarmed it: the harness has lost this host since a risky step, so the
# step is taken back. What is done goes to the kernel log. $1: file that is there while it is armed   $2: BDF
# $3: its driver or ""   $4: 1 when the host may be rebooted
armed=$1 device=/sys/bus/pci/devices/$2 run=${1%/*}
# Whoever goes back waits for this lock: nobody undoes while this does.
{ command exec 8>>"$run/work"; } 2>/dev/null && flock -s -w 10 8
# unlink(2) succeeds once: either it is disarmed, or this is the one that strikes.
rm "$armed" 2>/dev/null || exit 0
owner=$(xenstore-read "/libxl/pci/$(echo "$2" | sed 's/[:.]/-/g')/domid" 2>/dev/null)
if [ -n "$owner" ] && xl list "$owner" >/dev/null 2>&1; then
    echo "maskall: dead-man timer: domain $owner has $2 now, it stays there" >/dev/kmsg
    exit 0
fi
echo "maskall: dead-man timer: giving $2 back to ${3:-no driver}" >/dev/kmsg
echo "$2" 2>/dev/null >"$device/driver/unbind"
if [ -n "$3" ]; then
    echo "$3" >"$device/driver_override"
    echo "$2" >"/sys/bus/pci/drivers/$3/bind"
fi
echo >"$device/driver_override"
bound=$(readlink "$device/driver")
if [ "${bound##*/}" != "$3" ] && [ "$4" = 1 ]; then
    echo "maskall: dead-man timer: $2 did not go back, rebooting" >/dev/kmsg
    reboot -f
fi
