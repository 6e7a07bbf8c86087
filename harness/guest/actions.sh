# What a guest is told to do to its device. Sourced by the agent's commands; a device is named by vendor:device.
find_device() {
  for candidate in /sys/bus/pci/devices/*; do
    [ "$(cat "$candidate/vendor"):$(cat "$candidate/device")" = "0x${1%:*}:0x${1#*:}" ] && echo "$candidate" && return 0
  done
  echo "no device $1" >&2
  return 1
}

# The driver lets go of the device, as on a clean shutdown.
unload_driver() {
  device=$(find_device "$1") || return 1
  echo "${device##*/}" > "$device/driver/unbind"
}

# The driver $2 takes the device again.
load_driver() {
  device=$(find_device "$1") || return 1
  echo "${device##*/}" > "/sys/bus/pci/drivers/$2/bind"
}

# One 16-bit write to message control: $2 its offset in config space, $3 the low and $4 the high byte, octal.
# sysfs turns an aligned two-byte write into one config write (Linux pci_write_config).
write_control() {
  device=$(find_device "$1") || return 1
  printf "\\$3\\$4" | dd of="$device/config" bs=2 seek=$(($2 / 2)) conv=notrunc 2>&1
}

# Off, past every driver's shutdown hook. With ACPI that is S5 by hand: SLP_EN in PM1a control, with the sleep type that
# Xen's DSDT gives for S5, which is 0. A PV guest has no ACPI; Linux's emergency_restart is as rude.
power_off_by_hand() {
  [ -d /sys/firmware/acpi ] || { echo b > /proc/sysrq-trigger; return; }
  port=$(sed -n 's/^ *\([0-9a-f]*\)-.*PM1a_CNT_BLK/\1/p' /proc/ioports)
  [ -n "$port" ] || { echo "no PM1a control register" >&2; return 1; }
  printf '\040' | dd of=/dev/port bs=1 seek=$((0x$port + 1)) conv=notrunc
}

# The traffic of the driver $1 to the device $2 without end, behind the agent's back.
start_load() {
  find_device "$2" >/dev/null || return 1
  ( while :; do sh "/exercise/$1" "$2" 5; done ) </dev/null >/dev/null 2>&1 &
}

# Every CPU but the first goes and comes, and the device's vectors wander between them.
start_churn() {
  device=$(find_device "$1") || return 1
  ( while :; do
      for online in /sys/devices/system/cpu/cpu[1-9]*/online; do echo 0 > "$online"; done
      for irq in $(ls "$device/msi_irqs"); do echo 1 > "/proc/irq/$irq/smp_affinity"; done
      for online in /sys/devices/system/cpu/cpu[1-9]*/online; do echo 1 > "$online"; done
      for irq in $(ls "$device/msi_irqs"); do echo 2 > "/proc/irq/$irq/smp_affinity"; done
    done ) </dev/null >/dev/null 2>&1 &
}
