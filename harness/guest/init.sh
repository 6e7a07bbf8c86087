#!/bin/busybox sh
# The whole userland of a guest: loads the device's modules and obeys the console.
/bin/busybox mkdir -p /proc /sys /dev /bin /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec </dev/hvc0 >/dev/hvc0 2>&1
dmesg -n 1
stty -echo -onlcr
# in the background: a driver whose device is silent must not keep the agent from answering
wanted=$(sed -n 's/.*maskall\.drivers=\([^ ]*\).*/\1/p' /proc/cmdline)
( for driver in ${wanted//,/ }; do
    while read -r module; do insmod "/modules/$module" || echo "insmod $module failed" >/dev/kmsg; done <"/drivers/$driver"
  done ) &
echo "@agent up $(cut -d ' ' -f 1 /proc/uptime)"
while read -r token line; do
  ( eval "$line" ) </dev/null 2>&1
  printf '\n@%s %s\n' "$token" $?
done
