"""A python3-libtorrent client with stock settings: MODE ADDRESS TORRENT FOLDER, or node ADDRESS.

MODE `download` fetches, `seed` shares what is right of the folder, `lie` shares the folder without looking at
it. Every half a second a line tells its state. A `node` of the DHT has no torrent.
"""

import json
import sys
import time

import libtorrent as lt

mode, address = sys.argv[1:3]
session = lt.session({"listen_interfaces": address + ":6881", "enable_dht": mode == "node",
                      "dht_bootstrap_nodes": "", "enable_lsd": False,
                      "enable_upnp": False, "enable_natpmp": False,
                      "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.peer_notification})
while mode == "node":
    time.sleep(1)
torrent, folder = sys.argv[3:5]
parameters = lt.add_torrent_params()
parameters.ti = lt.torrent_info(torrent)
parameters.save_path = folder
if mode == "lie":
    # In seed mode it would look at each piece before it sends the first block of it.
    parameters.have_pieces = [True] * parameters.ti.num_pieces()
    parameters.flags |= lt.torrent_flags.no_verify_files
handle = session.add_torrent(parameters)
while True:
    for alert in session.pop_alerts():
        print(json.dumps({"alert": alert.message()}), flush=True)
    status = handle.status()
    print(json.dumps({"state": str(status.state), "progress": status.progress, "peers": status.num_peers,
                      "uploaded": status.total_payload_upload}), flush=True)
    time.sleep(0.5)
