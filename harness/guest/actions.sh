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

# One 16-bit write to message control: $2 its offset in config space, $3 the low and $4 the high byte, octal.
# sysfs turns an aligned two-byte write into one config write (Linux pci_write_config).
write_control() {
  device=$(find_device "$1") || return 1
  printf "\\$3\\$4" | dd of="$device/config" bs=2 seek=$(($2 / 2)) conv=notrunc 2>&1
}

# ACPI S5 by hand, past every driver's shutdown hook: SLP_EN in PM1a control, with the sleep type that Xen's DSDT gives
# for S5, which is 0.
power_off_by_hand() {
  port=$(sed -n 's/^ *\([0-9a-f]*\)-.*PM1a_CNT_BLK/\1/p' /proc/ioports)
  [ -n "$port" ] || { echo "no PM1a control register" >&2; return 1; }
  printf '\040' | dd of=/dev/port bs=1 seek=$((0x$port + 1)) conv=notrunc
}
