# Prints the device as its owner sees it, around a burst of traffic. Runs in a guest (busybox sh) and in dom0 (dash).
# Expects ready() and traffic(), and in $1 the device's vendor:device, in $2 the seconds of patience. With any $3 it only
# waits for the driver, makes no traffic, and its status says whether the driver is ready.
#
# A driver whose vectors are set up but of which none has fired within the patience will not get better: waiting for
# its own timeout (60 s for nvme) would tell nothing more.
patience=$2
section() { printf '\n== %s\n' "$1"; }
seconds() { read -r up _ < /proc/uptime; echo "${up%.*}"; }
# whose answer this is, for a run that was asked for by somebody who does not believe us
challenge=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^maskall\.challenge=//p')
[ -z "$challenge" ] || { section challenge; echo "$challenge"; }
# a hot-plugged device, or one behind the PV frontend, comes a while after the guest is up; much later where the host is
# busy, and only one that never comes is missing
start=$(seconds) device=
while [ -z "$device" ]; do
  for candidate in /sys/bus/pci/devices/*; do
    [ -e "$candidate/vendor" ] || continue
    [ "$(cat "$candidate/vendor"):$(cat "$candidate/device")" = "0x${1%:*}:0x${1#*:}" ] && device=$candidate && break
  done
  [ $(($(seconds) - start)) -lt $((patience * 5)) ] || break
  [ -n "$device" ] || sleep 0.1
done
section device
[ -n "$device" ] || { echo none; section end; exit 1; }
echo "${device##*/}"
vectors() { ls "$device/msi_irqs" 2>/dev/null; }
# what interrupts: its MSI or MSI-X vectors, or the one line of INTx
lines() { [ -d "$device/msi_irqs" ] && vectors || cat "$device/irq"; }
fired() {
  awk -v irqs="$(lines | tr '\n' ' ')" '
    BEGIN { n = split(irqs, list, " "); for (i = 1; i <= n; i++) wanted[list[i] ":"] = 1 }
    NR == 1 { cpus = NF }
    $1 in wanted { for (i = 2; i <= cpus + 1; i++) sum += $i }
    END { print sum + 0 }' /proc/interrupts
}
start=$(seconds) silent_since= is_ready=no
while :; do
  now=$(seconds)
  ready && is_ready=yes && break
  if [ -n "$(vectors)" ] && [ "$(fired)" = 0 ]; then
    [ -n "$silent_since" ] || silent_since=$now
    [ $((now - silent_since)) -ge "$patience" ] && break
  else
    silent_since=
  fi
  [ $((now - start)) -ge $((patience * 4)) ] && break
  sleep 0.1
done
section ready
echo $is_ready
[ -z "$3" ] || { [ $is_ready = yes ]; exit; }
section interrupts_before
cat /proc/interrupts
section traffic
if [ $is_ready = yes ]; then
  traffic & burst=$!
  # traffic that still interrupts goes on: on a busy host it is slow, not broken
  # its output goes nowhere: whoever reads ours would wait for the sleep to end
  ( left=4 before=$(fired)
    while sleep "$patience"; do
      left=$((left - 1)) now=$(fired)
      [ "$now" -gt "$before" ] && [ $left -gt 0 ] || break
      before=$now
    done
    kill $burst ) >/dev/null 2>&1 & watchdog=$!
  wait $burst; status=$?
  kill $watchdog 2>/dev/null
  echo "status $status"
else
  echo "status 125"
fi
section interrupts_after
cat /proc/interrupts
section msi_irqs
vectors
section intx
cat "$device/irq"
section driver
link=$(readlink "$device/driver"); echo "${link##*/}"
section config
od -An -v -tx1 -N 256 "$device/config"
section dmesg
dmesg | tail -n 40
section end
