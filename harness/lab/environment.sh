# environment.sh SEPARATOR: what dom0 consists of, for a certificate. Reads only.
sep=$1
section() { printf '\n%s %s\n' "$sep" "$1"; }
# dpkg knows a file by the name in its package, with /usr or without
owner() {
  { dpkg-query -S "$1" || dpkg-query -S "/usr$1" || dpkg-query -S "${1#/usr}"; } 2>/dev/null | sed 's/: .*//; s/, /\n/g'
}
build=$(xl info 2>/dev/null | sed -n 's/^build_id *: *//p')

section boot
cat /proc/sys/kernel/random/boot_id
section clock
date -u +%s
timedatectl show -p NTPSynchronized --value 2>/dev/null
section taint
cat /proc/sys/kernel/tainted
section commandlines
cat /proc/cmdline
xl info 2>/dev/null | sed -n 's/^xen_commandline *: *//p'
section packages
{ owner "$(readlink -f /usr/lib/xen*/bin/xl /usr/sbin/xl 2>/dev/null | head -n 1)"
  owner "/boot/vmlinuz-$(uname -r)"
  for file in /boot/xen-*.gz /boot/xen-*; do [ -L "$file" ] || [ ! -f "$file" ] || owner "$file"; done
  dpkg-query -W -f '${Package}\n' 'xen-*' 'libxen*' 'qemu-system-x*' 2>/dev/null
} | sort -u | while read -r name; do
  dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\n' "$name" 2>/dev/null
done | sed -n 's/^ii *//p'
section verify
dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 'xen-*' 'libxen*' 'qemu-system-x*' "linux-image-$(uname -r)*" 2>/dev/null |
  sed -n 's/^ii *//p' | sort -u | while read -r name; do dpkg --verify "$name" 2>&1 | sed "s/^/$name: /"; done
section build
echo "running $build"
bytes=$(printf %s "$build" | sed 's/../\\x&/g')
for file in /boot/xen-*; do
  [ -L "$file" ] || [ ! -f "$file" ] && continue
  if [ -n "$build" ] && zcat -f "$file" 2>/dev/null | LC_ALL=C grep -qaP "$bytes"; then echo "in $file"; fi
done
section livepatches
xen-livepatch list 2>&1
echo "status $?"
section modules
for name in xen_pciback xen_evtchn xen_gntdev xen_privcmd; do
  [ -d "/sys/module/$name" ] || continue
  file=$(modinfo -F filename "$name" 2>/dev/null)
  case $file in
    /*) echo "$name $(owner "$file" | head -n 1) $file" ;;
    "(builtin)") ;;
    *) echo "$name nobody no file of its name" ;;
  esac
done
section firmware
for name in sys_vendor product_name bios_vendor bios_version bios_date; do
  printf '%s %s\n' "$name" "$(cat "/sys/class/dmi/id/$name" 2>/dev/null)"
done
sed -n 's/^microcode[^:]*: */microcode /p' /proc/cpuinfo | head -n 1
for file in /sys/bus/pci/devices/*/nvme/*/firmware_rev /sys/bus/pci/devices/*/fw_ver /sys/bus/pci/devices/*/fwrev; do
  [ -r "$file" ] && printf '%s %s\n' "${file#/sys/bus/pci/devices/}" "$(cat "$file")"
done
for path in /sys/bus/pci/devices/*/net/*; do
  [ -d "$path" ] || continue
  rest=${path#/sys/bus/pci/devices/}
  printf '%s %s\n' "${rest%%/*}" "$(ethtool -i "${path##*/}" 2>/dev/null | sed -n 's/^firmware-version: //p')"
done
section end
