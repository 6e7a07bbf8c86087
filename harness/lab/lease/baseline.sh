# How a PCI function, its driver and what the driver makes of it are now; reads only. $1: separator   $2: BDF
section() { printf '\n%s %s\n' "$separator" "$1"; }
# By the shell itself wherever it can, because a process each is slow on a busy dom0: the lines of an attribute that
# there may be, one value of a thing, where a link leads.
show() { while read -r line; do echo "$line"; done <"$1"; } 2>/dev/null
value() { [ -e "$3" ] && read -r line <"$3" && echo "$1 $2 $line"; } 2>/dev/null
place() { cd -P "$1" 2>/dev/null && echo "$PWD" && cd /; }
attribute() { section "$1"; show "$device/${2:-$1}"; }
separator=$1 device=/sys/bus/pci/devices/$2
section path
place "$device"
section ids
for name in vendor device subsystem_vendor subsystem_device; do
    show "$device/$name"
done
section slots
show /sys/bus/pci/drivers/pciback/slots
section driver
place "$device/driver"
attribute driver_override
section power_control
show "$device/power/control"
attribute reset_method
attribute sriov_numvfs
section config
od -An -v -tx1 "$device/config"
section interfaces
for interface in "$device"/net/* "$device"/virtio*/net/*; do
    [ -e "$interface/flags" ] && read -r flags <"$interface/flags" && echo "${interface##*/} $flags"
done
# What an administrator may have set, and a driver that is bound anew sets back: `net0 mtu 9000`. Numbers, not names:
# a drive is nvme2 when it comes back before the name nvme1 is free.
section settings
number=0
for interface in "$device"/net/* "$device"/virtio*/net/*; do
    [ -e "$interface/flags" ] || continue
    thing=net$number name=${interface##*/} number=$((number + 1))
    echo "$thing name $name"
    for setting in mtu address tx_queue_len; do
        value "$thing" "$setting" "$interface/$setting"
    done
    command -v ethtool >/dev/null 2>&1 || continue
    ethtool -k "$name" 2>/dev/null | sed -n "s/^[[:space:]]*\([a-z0-9-]*\): \(o[nf]*\)\$/$thing feature \1 \2/p"
    for what in g:ring l:channels; do
        ethtool "-${what%%:*}" "$name" 2>/dev/null |
            sed -n "/^Current/,\$s/^\([A-Z][A-Za-z]*\):[[:space:]]*\([0-9]*\)\$/$thing ${what#*:} \1 \2/p"
    done
done
number=0
for disk in "$device"/nvme/nvme*/nvme* "$device"/virtio*/block/* "$device"/ata*/host*/target*/*/block/* \
    "$device"/host*/target*/*/block/* "$device"/usb*/*/*/host*/target*/*/block/*; do
    [ -e "$disk/queue/scheduler" ] || continue
    thing=block$number number=$((number + 1))
    echo "$thing name ${disk##*/}"
    for setting in scheduler read_ahead_kb nr_requests nomerges rq_affinity io_timeout max_sectors_kb wbt_lat_usec; do
        value "$thing" "$setting" "$disk/queue/$setting"
    done
done
section end
