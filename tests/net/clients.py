"""Other people's clients, as Debian ships them: how each is made to share a folder, and to download into one.

All listen at port 6881 of their machine and ask trackers only: no DHT, no local discovery.

`show` is a command that prints a torrent's info-hash. It is for clients that may be too old for hybrid torrents:
aria2 1.36 and transmission 3.00 trip over the empty keys in BEP 52's file tree, whoever has made the torrent.
aria2 leaves them out and so takes it for another torrent, with another info-hash (aria2 #1903, mended in 1.37);
transmission takes it for a damaged one (transmission #1339, mended in 4.0).
"""

import json
import os
import re
import subprocess
from pathlib import Path

from network import DEBIANS_PYTHON, has_program, wait_until

LIBTORRENT_PEER = Path(__file__).with_name("libtorrent_peer.py")


class Aria2:
    name = "aria2"
    program = "aria2c"
    show = ["aria2c", "--show-files"]
    knows_pad_files = False

    OPTIONS = ["--no-conf", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false",
               "--enable-peer-exchange=false", "--listen-port=6881", "--file-allocation=none"]

    def seed(self, test, machine, torrent, folder):
        return self._run(test, machine, torrent, folder, "--check-integrity=true", "--seed-ratio=0.0")

    def download(self, test, machine, torrent, folder):
        return self._run(test, machine, torrent, folder, "--seed-time=0")

    def _run(self, test, machine, torrent, folder, *options):
        return test.start_client(self, machine, "aria2c", *self.OPTIONS, "--dir=" + str(folder), *options, torrent)


class Transmission:
    name = "transmission"
    program = "transmission-daemon"
    show = ["transmission-show"]
    knows_pad_files = False  # up to 3.00

    def seed(self, test, machine, torrent, folder):
        """What it finds in the folder it verifies, then shares."""
        home = test.folder / f"transmission-{machine.address}"
        home.mkdir()
        (home / "settings.json").write_text(json.dumps({
            "bind-address-ipv4": machine.address, "peer-port": 6881, "dht-enabled": False, "lpd-enabled": False,
            "pex-enabled": False, "utp-enabled": False, "port-forwarding-enabled": False,
            "rpc-bind-address": "127.0.0.1", "download-dir": str(folder), "incomplete-dir-enabled": False,
            "rename-partial-files": False}))
        process = test.start_client(self, machine, "transmission-daemon", "--foreground", "--config-dir", home)
        wait_until(lambda: test.start_on(machine, "transmission-remote", "--add", torrent).wait() == 0)
        return process

    download = seed


class QBittorrent:
    name = "qbittorrent"
    program = "qbittorrent-nox"
    show = None
    knows_pad_files = True

    def seed(self, test, machine, torrent, folder):
        profile = test.folder / f"qbittorrent-{machine.address}"
        configuration = profile / "qBittorrent/config/qBittorrent.conf"
        configuration.parent.mkdir(parents=True)
        configuration.write_text("[LegalNotice]\nAccepted=true\n"
                                 "[BitTorrent]\nSession\\Port=6881\nSession\\DHTEnabled=false\n"
                                 "Session\\LSDEnabled=false\nSession\\PeXEnabled=false\n"
                                 "[Network]\nPortForwardingEnabled=false\n"
                                 "[Preferences]\nConnection\\UPnP=false\n")
        return test.start_client(self, machine, "qbittorrent-nox", f"--profile={profile}", f"--save-path={folder}",
                                 "--add-paused=false", torrent)

    download = seed


class Libtorrent:
    name = "python3-libtorrent"
    program = None  # a module
    show = None
    knows_pad_files = True

    def seed(self, test, machine, torrent, folder):
        return test.start_client(self, machine, DEBIANS_PYTHON, "-B", LIBTORRENT_PEER, "seed", machine.address,
                                 torrent, folder)

    def download(self, test, machine, torrent, folder):
        return test.start_client(self, machine, DEBIANS_PYTHON, "-B", LIBTORRENT_PEER, "download", machine.address,
                                 torrent, folder)


ALL = [Aria2(), Transmission(), QBittorrent(), Libtorrent()]


def is_installed(client, test):
    return has_program(client.program) if client.program else test.has_libtorrent()


def reads_torrent(client, torrent, infohash):
    if client.show is None:
        return True
    shown = subprocess.run([*client.show, str(torrent)], capture_output=True, text=True, timeout=20)
    return infohash in shown.stdout


def write_pad_files(torrent, folder):
    """Zeros on the disk for those who take a hybrid torrent's pad files (BEP 47) for files."""
    for size, number in re.findall(rb"6:lengthi(\d+)e4:pathl4:.pad\d+:(\d+)ee", Path(torrent).read_bytes()):
        path = folder / ".pad" / number.decode()
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.truncate(path, int(size))
