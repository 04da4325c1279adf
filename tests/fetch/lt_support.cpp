#include "tests/fetch/lt_support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <libtorrent/bencode.hpp>
#include <libtorrent/create_torrent.hpp>
#include <libtorrent/load_torrent.hpp>
#include <libtorrent/posix_disk_io.hpp>
#include <libtorrent/session.hpp>
#include <libtorrent/session_params.hpp>
#include <libtorrent/torrent_info.hpp>
#include <stdexcept>
#include <vector>

#include "base/bytes.h"
#include "base/hasher.h"
#include "tests/fetch/tiny_tracker.h"

namespace sluice::tests {

std::string make_lt_torrent(const std::filesystem::path& folder, LtVersion version) {
  lt::file_storage files;
  lt::add_files(files, folder.string());
  lt::create_flags_t flags{};
  if (version == LtVersion::v1) flags = lt::create_torrent::v1_only;
  if (version == LtVersion::v2) flags = lt::create_torrent::v2_only;
  lt::create_torrent torrent(files, 16384, flags);
  lt::set_piece_hashes(torrent, folder.parent_path().string());
  std::string content;
  lt::bencode(std::back_inserter(content), torrent.generate());
  return content;
}

struct LtSeeder::State {
  std::unique_ptr<lt::session> session;
};

LtSeeder::LtSeeder(const std::filesystem::path& torrent, const std::filesystem::path& folder, Check check)
    : state_(std::make_unique<State>()) {
  lt::session_params params;
  params.settings.set_str(lt::settings_pack::listen_interfaces, "127.0.0.1:0");
  params.settings.set_bool(lt::settings_pack::enable_dht, false);
  params.settings.set_bool(lt::settings_pack::enable_lsd, false);
  params.settings.set_bool(lt::settings_pack::enable_upnp, false);
  params.settings.set_bool(lt::settings_pack::enable_natpmp, false);
  params.settings.set_bool(lt::settings_pack::allow_multiple_connections_per_ip, true);
  params.settings.set_bool(lt::settings_pack::disable_hash_checks, check == Check::nothing);
  params.disk_io_constructor = lt::posix_disk_io_constructor;
  state_->session = std::make_unique<lt::session>(std::move(params));
  lt::add_torrent_params add = lt::load_torrent_file(torrent.string());
  add.save_path = folder.string();
  add.flags = lt::torrent_flags::seed_mode;
  state_->session->add_torrent(std::move(add));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (state_->session->listen_port() == 0) {
    if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("libtorrent does not listen");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

LtSeeder::~LtSeeder() = default;

std::string LtSeeder::peer() const { return "127.0.0.1:" + std::to_string(state_->session->listen_port()); }

namespace {

std::string bencoded(std::string_view text) { return std::to_string(text.size()) + ":" + std::string(text); }

bool send_all(int peer, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto put = ::send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (put <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return true;
}

bool receive(int peer, std::string& out, std::size_t count) {
  out.resize(count);
  std::size_t got = 0;
  while (got < count) {
    pollfd wait{.fd = peer, .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, 5000) <= 0) return false;
    const auto n = ::recv(peer, out.data() + got, count - got, 0);
    if (n <= 0) return false;
    got += static_cast<std::size_t>(n);
  }
  return true;
}

std::string message(char id, std::string_view body) {
  const std::uint32_t length = htonl(static_cast<std::uint32_t>(body.size() + 1));
  std::string out(reinterpret_cast<const char*>(&length), 4);
  out += id;
  out += body;
  return out;
}

}  // namespace

std::string make_hostile_info(std::string_view file_name) {
  return "d5:filesld6:lengthi5e4:pathl" + bencoded(file_name) +
         "eee4:name1:t12:piece lengthi16384e6:pieces20:" + std::string(20, 'x') + "e";
}

HostileSeeder::HostileSeeder(std::string info) : info_(std::move(info)) {
  listener_ = listen_on_loopback(port_);
  thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
}

HostileSeeder::~HostileSeeder() {
  thread_.request_stop();
  thread_.join();
  ::close(listener_);
}

std::string HostileSeeder::magnet() const {
  return "magnet:?xt=urn:btih:" + base::to_hex(base::hash<base::Sha1>(base::as_bytes(info_)));
}

void HostileSeeder::serve(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    pollfd wait{.fd = listener_, .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, 50) <= 0) continue;
    const int peer = ::accept(listener_, nullptr, nullptr);
    serve_peer(peer);
    ::close(peer);
  }
}

void HostileSeeder::serve_peer(int peer) const {
  constexpr std::size_t kHandshakeBytes = 68;
  constexpr char kExtended = 20;
  constexpr char kOurMetadataId = 3;
  std::string handshake;
  // A peer that tries encryption first is hung up on; it comes again in the clear.
  if (!receive(peer, handshake, kHandshakeBytes) || handshake.substr(1, 19) != "BitTorrent protocol") return;
  std::string answer = handshake.substr(0, 20) + std::string("\0\0\0\0\0\x10\0\0", 8) +
                       handshake.substr(28, 20) + "-XX0001-hostile00000";
  answer +=
      message(kExtended, std::string(1, '\0') + "d1:md11:ut_metadatai" + std::to_string(kOurMetadataId) +
                             "ee13:metadata_sizei" + std::to_string(info_.size()) + "ee");
  if (!send_all(peer, answer)) return;
  int their_metadata_id = 0;
  while (true) {
    std::string head;
    std::string body;
    if (!receive(peer, head, 4)) return;
    std::uint32_t length = 0;
    std::memcpy(&length, head.data(), 4);
    length = ntohl(length);
    if (length > 1 << 20 || !receive(peer, body, length)) return;
    if (length < 2 || body[0] != kExtended) continue;
    if (body[1] == 0) {
      const auto at = body.find("11:ut_metadatai");
      if (at != std::string::npos) their_metadata_id = std::stoi(body.substr(at + 15));
    } else if (body[1] == kOurMetadataId && body.find("8:msg_typei0e") != std::string::npos) {
      const std::string data = std::string(1, static_cast<char>(their_metadata_id)) +
                               "d8:msg_typei1e5:piecei0e10:total_sizei" + std::to_string(info_.size()) +
                               "ee" + info_;
      if (!send_all(peer, message(kExtended, data))) return;
    }
  }
}

}  // namespace sluice::tests
