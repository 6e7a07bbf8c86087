"""Domains through xl or libvirt."""
