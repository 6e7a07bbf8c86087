# Run on the host by its own timer when nobody disarmed it: the harness has lost this host since a risky step, so the
# step is taken back. What is done goes to the kernel log. $1: file that is there while it is armed   $2: BDF
# $3: its driver or ""   $4: 1 when the host may be rebooted
armed=$1 device=/sys/bus/pci/devices/$2
[ -e "$armed" ] || exit 0
rm -f "$armed"
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
