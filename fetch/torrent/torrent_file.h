#pragma once
// Reads a .torrent or an info dictionary into format::ReleaseLayout, for v1 (BEP 3), v2 (BEP 52) and hybrid
// torrents. It reads the raw bencode and decides about names itself (name_cleaner.h); libtorrent gets our
// names. libtorrent reads the same bytes again for the transfer.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "fetch/fetch.h"
#include "format/release_layout.h"

namespace sluice::fetch {

// Limits of what is read. Metadata come from strangers: together with kTorrentBytesMax (fetch/fetch.h) these
// keep the reader below 450 MiB for any input (tests/cli/big_torrent_test.py).
constexpr int kPiecesMax = 4 << 20;
constexpr int kTokensMax = 4 << 20;  // bdecode tokens of 8 bytes; a file takes 10 to 30
constexpr int kDepthMax = 100;

/// Lower limits for a reader that has less memory.
struct TorrentLimits {
  std::uint64_t bytes_max = kTorrentBytesMax;
  int tokens_max = kTokensMax;
};

struct Torrent {
  std::string info;  ///< the info dictionary byte for byte, which the info-hashes are computed from
  format::ReleaseLayout layout;
  std::vector<std::string> trackers;
  std::vector<std::string> web_seeds;
  std::string encoding;  ///< of names that are not in UTF-8, such as "GBK"; empty when all are, or unknown
};

/// Takes `content` by value so that the bytes are held only once. Error{malformed}, whose message begins with
/// `subject`, for everything that read_torrent refuses. Bytes after the end are ignored with a warning.
[[nodiscard]] Torrent parse_torrent_file(std::string content, std::string_view subject,
                                         const TorrentLimits& limits = {});

/// Reads an info dictionary as peers send it (BEP 9), which has no piece layers.
[[nodiscard]] format::ReleaseLayout parse_info(std::string_view info, std::string_view subject,
                                               const TorrentLimits& limits = {});

/// The number of bdecode tokens that the text takes, counted without decoding it: a number and a string take
/// one, a list and a dictionary two.
[[nodiscard]] std::uint64_t count_tokens(std::string_view bencode);

/// Adds the piece layers in a bencoded dictionary of pieces roots and layers (the value of "piece layers").
/// Error{malformed} when a layer does not match its root.
void add_piece_layers(format::ReleaseLayout& layout, std::string_view layers, std::string_view subject);

/// Writes the bytes of a .torrent; the inverse of parse_torrent_file.
[[nodiscard]] std::string to_text(const Torrent& torrent);

/// Writes the same bytes to a file, as base::write_file does, without holding all of them in memory.
void write_torrent(const std::filesystem::path& path, const Torrent& torrent);

/// The name of a torrent's files in .sluice: its v1 info-hash in hex, or its v2 info-hash when it has no v1.
[[nodiscard]] std::string torrent_key(const format::ReleaseLayout& layout);

}  // namespace sluice::fetch
