#pragma once
// A .torrent's content and its info dictionary as format::ReleaseLayout, for v1 (BEP 3), v2 (BEP 52) and
// hybrid torrents. It reads the raw bencode, before libtorrent would mend names: what is not clean is
// refused. libtorrent reads the same bytes again for the transfer.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "format/release_layout.h"

namespace sluice::fetch {

// What is read at the most. Metadata comes from strangers: together these keep the reader below 450 MiB,
// whatever it is given (tests/cli/big_torrent_test.py).
constexpr std::uint64_t kTorrentBytesMax = std::uint64_t{160} << 20;  // 4 Mi pieces: 80 MiB in v1, 128 in v2
constexpr int kPiecesMax = 4 << 20;
constexpr int kTokensMax = 4 << 20;  // of 8 bytes; a file takes 10 to 30
constexpr int kDepthMax = 100;

/// For readers with less memory; never more than the above.
struct TorrentLimits {
  std::uint64_t bytes_max = kTorrentBytesMax;
  int tokens_max = kTokensMax;
};

struct Torrent {
  std::string info;  ///< the info dictionary, byte for byte: what the info-hashes are of
  format::ReleaseLayout layout;
  std::vector<std::string> trackers;
  std::vector<std::string> web_seeds;
};

/// Takes the content over: what is read is held once. Error{malformed} with `subject` for everything that
/// read_torrent refuses.
[[nodiscard]] Torrent parse_torrent_file(std::string content, std::string_view subject,
                                         const TorrentLimits& limits = {});

/// The info dictionary alone, as peers send it (BEP 9); without piece layers.
[[nodiscard]] format::ReleaseLayout parse_info(std::string_view info, std::string_view subject,
                                               const TorrentLimits& limits = {});

/// Takes over the piece layers from a bencoded dictionary of pieces roots and layers (the value of
/// "piece layers"). Error{malformed} when one does not belong to its root.
void add_piece_layers(format::ReleaseLayout& layout, std::string_view layers, std::string_view subject);

/// The bytes of a .torrent; the inverse of parse_torrent_file.
[[nodiscard]] std::string to_text(const Torrent& torrent);

/// Writes these bytes as base::write_file does, without a copy of them all.
void write_torrent(const std::filesystem::path& path, const Torrent& torrent);

/// The name under which a torrent's own files stand in .sluice: its v1 info-hash, else v2.
[[nodiscard]] std::string torrent_key(const format::ReleaseLayout& layout);

}  // namespace sluice::fetch
