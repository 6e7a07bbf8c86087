# How a PCI function, its driver and its network interface are now; reads only. $1: separator   $2: BDF
section() { printf '\n%s %s\n' "$separator" "$1"; }
# The lines of an attribute that there may be; by the shell itself, because a process each is slow on a busy dom0.
show() { while read -r line; do echo "$line"; done <"$1"; } 2>/dev/null
separator=$1 device=/sys/bus/pci/devices/$2
section path
readlink -f "$device"
section ids
for name in vendor device subsystem_vendor subsystem_device; do
    show "$device/$name"
done
section slots
cat /sys/bus/pci/drivers/pciback/slots 2>/dev/null
section driver
readlink "$device/driver"
for name in driver_override power/control reset_method sriov_numvfs; do
    section "$name"
    show "$device/$name"
done
section config
od -An -v -tx1 "$device/config"
section interfaces
for interface in "$device"/net/* "$device"/virtio*/net/*; do
    [ -e "$interface/flags" ] && read -r flags <"$interface/flags" && echo "${interface##*/} $flags"
done
section end
