# Switches on one virtual function. $1 vendor, $2 device of its physical function, $3 name of its driver, then modules.
vendor=0x$1 device=0x$2 driver=$3
shift 3
find_card() {
  for card in /sys/bus/pci/devices/*; do
    [ "$(cat "$card/vendor")" = "$vendor" ] && [ "$(cat "$card/device")" = "$device" ] && [ -d "$card/net" ] && return
  done
  return 1
}
await() {   # a condition, up to 30 s
  for attempt in $(seq 150); do
    "$@" && return
    sleep 0.2
  done
  echo "in vain: $*"
  exit 1
}
await find_card
for port in "$card"/net/*; do
  ip link set dev "${port##*/}" up || exit 1   # a VF has a link when its PF has
done
echo 1 > "$card/sriov_numvfs" || exit 1
for module; do
  modprobe "$module" || exit 1
done
bound() { [ "$(basename "$(readlink "$card/virtfn0/driver")")" = "$driver" ]; }
await bound
