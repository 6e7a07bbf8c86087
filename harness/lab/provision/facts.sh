# What decides how a system becomes a Xen dom0, in sections; reads only. $1: separator nobody can foresee.
# The other arguments are package names, then `--`, then paths.
section() { printf '\n%s %s\n' "$separator" "$1"; }
separator=$1
shift
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin LC_ALL=C
export PATH LC_ALL
packages=
while [ $# -gt 0 ] && [ "$1" != -- ]; do packages="$packages $1"; shift; done
[ $# -eq 0 ] || shift
section os-release
cat /etc/os-release
section boot_id
cat /proc/sys/kernel/random/boot_id
section architecture
dpkg --print-architecture
section kernel
uname -r
section kernels
find /boot -maxdepth 1 -type f '(' -name 'vmlinu[xz]-*' -o -name 'initrd.img-*' ')' -printf '%f %s\n'
section cmdline
cat /proc/cmdline
section hypervisor
cat /sys/hypervisor/type /proc/xen/capabilities 2>/dev/null
section xl_info
xl info 2>/dev/null
section boot
[ -d /sys/firmware/efi ] && echo efi
[ "$(od -An -t u1 -j 4 -N 1 /sys/firmware/efi/efivars/SecureBoot-* 2>/dev/null | tr -d ' ')" = 1 ] && echo secure_boot
[ -d /run/systemd/system ] && echo systemd
[ -f /etc/default/grub ] && echo grub_default
[ -f /boot/grub/grub.cfg ] && echo grub_cfg
command -v update-grub >/dev/null && echo update_grub
[ -e /sys/firmware/acpi/tables/DMAR ] || [ -e /sys/firmware/acpi/tables/IVRS ] && echo iommu
[ -d /sys/bus/pci/drivers/pciback ] && echo pciback
grep -qE '^flags[[:space:]]*:.*[[:space:]](vmx|svm)([[:space:]]|$)' /proc/cpuinfo && echo hvm
grubenv=/boot/grub/grubenv
[ -f $grubenv ] && [ ! -L $grubenv ] && [ "$(stat -c %s $grubenv)" = 1024 ] &&
    [ "$(head -n 1 $grubenv)" = '# GRUB Environment Block' ] && echo grubenv
grep -qs '^LOAD_KEXEC=.*true' /etc/default/kexec && echo kexec
grep -qsE '(^|[^_])default=' /boot/grub/custom.cfg && echo custom_default
section loader
{
    echo "fs $(grub-probe --target=fs /boot/grub)"
    for one in $(grub-probe --target=abstraction /boot/grub); do echo "abstraction $one"; done
    echo "root $(findmnt -n -o FSTYPE /)"
    for place in / /boot /boot/grub /etc /usr /var/lib; do
        case $(findmnt -n -o OPTIONS -T $place) in ro | ro,*) echo "readonly $place" ;; esac
        [ -d $place ] || echo "absent $place"
    done
    awk '$1 !~ /^#/ && $2 == "/boot" { found = 1 } END { exit !found }' /etc/fstab &&
        [ "$(findmnt -n -o TARGET -T /boot)" != /boot ] && echo "unmounted /boot"
    for one in /sys/firmware/efi/efivars/LoaderInfo-*; do
        [ -e "$one" ] && echo "info $(tail -c +5 "$one" | tr -d '\000')"
    done
} 2>/dev/null
section menu
sed '/^[[:space:]]*password/d' /boot/grub/grub.cfg 2>/dev/null
section grubenv
grub-editenv $grubenv list 2>/dev/null
section half
dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null | grep -vE ' (installed|not-installed|config-files)$'
section space
df -Pk / /boot /var 2>/dev/null
section packages
# shellcheck disable=SC2086
dpkg-query -W -f '${Package} ${db:Status-Abbrev} ${Version}\n' $packages 2>/dev/null
section files
for path; do [ -f "$path" ] && sha256sum "$path"; done
section backup
cat /var/lib/maskall/provision/manifest.json 2>/dev/null
section end
