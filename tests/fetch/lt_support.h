#pragma once
// libtorrent used directly: torrents that publish() does not make, and seeders that do not behave.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

namespace sluice::tests {

enum class LtVersion : std::uint8_t { v1, v2, hybrid };

/// libtorrent's own torrent of a folder, with 16 KiB pieces.
std::string make_lt_torrent(const std::filesystem::path& folder, LtVersion version);

/// A libtorrent session on 127.0.0.1 that seeds a torrent.
class LtSeeder {
 public:
  enum class Check : std::uint8_t { pieces, nothing };  ///< nothing: sends whatever is on disk
  LtSeeder(const std::filesystem::path& torrent, const std::filesystem::path& folder, Check check);
  ~LtSeeder();

  [[nodiscard]] std::string peer() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The info dictionary of a v1 torrent "t" with one file of that path element.
std::string make_hostile_info(std::string_view file_name);

/// A peer on 127.0.0.1 that serves any bytes as metadata (BEP 9, BEP 10) to one peer after the other, and
/// nothing else: libtorrent itself would refuse to load its torrent.
class HostileSeeder {
 public:
  explicit HostileSeeder(std::string info);
  ~HostileSeeder();
  HostileSeeder(const HostileSeeder&) = delete;
  HostileSeeder& operator=(const HostileSeeder&) = delete;

  [[nodiscard]] std::string peer() const { return "127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] std::string magnet() const;

 private:
  void serve(const std::stop_token& stop);
  void serve_peer(int peer) const;

  std::string info_;
  int listener_ = -1;
  int port_ = 0;
  std::jthread thread_;
};

}  // namespace sluice::tests
