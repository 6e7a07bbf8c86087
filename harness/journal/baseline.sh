# How a PCI function, its driver and its network interface are now; reads only. $1: separator   $2: BDF
section() { printf '\n%s %s\n' "$separator" "$1"; }
separator=$1 device=/sys/bus/pci/devices/$2
section path
readlink -f "$device"
section ids
cat "$device/vendor" "$device/device" "$device/subsystem_vendor" "$device/subsystem_device" 2>/dev/null
section slots
cat /sys/bus/pci/drivers/pciback/slots 2>/dev/null
section driver
readlink "$device/driver"
for name in driver_override power/control reset_method sriov_numvfs; do
    section "$name"
    cat "$device/$name" 2>/dev/null
done
section config
od -An -v -tx1 "$device/config"
section interfaces
for interface in "$device"/net/* "$device"/virtio*/net/*; do
    [ -e "$interface/flags" ] && echo "${interface##*/} $(cat "$interface/flags")"
done
section end
