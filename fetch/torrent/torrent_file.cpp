// Reader and writer of .torrent files (BEP 3, BEP 52). The reader uses libtorrent's bdecode() for the syntax
// alone and checks every field itself; the layout that it returns is complete and consistent: lengths fit,
// pieces and layers have the number that the lengths ask for, and each piece layer hashes to its root. The
// writer emits the parts in order, so that the info dictionary is never copied.
//
// The input comes from strangers. Everything that the rest of the program derives from it (allocations,
// loops, paths) is bounded by a limit that is checked here or in torrent_files.cpp.
//
// All functions are pure, except those that read or write a file, and may be called by any thread.

#include "fetch/torrent/torrent_file.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <iterator>
#include <map>
#include <span>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "base/text.h"
#include "fetch/fetch.h"
#include "fetch/torrent/bencode.h"
#include "fetch/torrent/name_cleaner.h"
#include "fetch/torrent/torrent_fields.h"
#include "fetch/torrent/torrent_files.h"

namespace sluice::fetch {
namespace {

using format::ReleaseFile;
using format::ReleaseLayout;

constexpr std::uint64_t kPieceBytesMax = std::uint64_t{512} << 20;

lt::bdecode_node decode(std::string_view content, std::string_view subject, const TorrentLimits& limits) {
  if (content.size() > limits.bytes_max)
    base::throw_malformed(subject, "has " + std::to_string(content.size()) + " bytes, expected at most " +
                                       std::to_string(limits.bytes_max));
  lt::error_code error;
  // The limits of bdecode() bound its recursion and its list of tokens, which would otherwise take several
  // times the memory of the text.
  int position = 0;
  lt::bdecode_node root = lt::bdecode({content.data(), static_cast<std::ptrdiff_t>(content.size())}, error,
                                      &position, kDepthMax, limits.tokens_max);
  if (error)
    base::throw_malformed(subject,
                          "is not a .torrent file: bencode byte " + std::to_string(position) + ": " + error.message());
  if (root.type() != lt::bdecode_node::dict_t) base::throw_malformed(subject, "is not a dictionary");
  return root;
}

/// bdecode() accepts trailing bytes, but the info-hash of an info dictionary would cover them.
void require_no_more(const lt::bdecode_node& root, std::string_view content, std::string_view subject) {
  const std::size_t end = section_of(root).size();
  if (end != content.size())
    base::throw_malformed(subject, "has " + std::to_string(content.size() - end) + " bytes after its end");
}

template <typename D>
std::vector<D> split_digests(std::string_view text) {
  // The callers have checked that the length is a multiple of the digest's.
  std::vector<D> digests(text.size() / D::kBytes);
  for (std::size_t i = 0; i < digests.size(); ++i)
    std::ranges::copy(base::as_bytes(text.substr(i * D::kBytes, D::kBytes)), digests[i].bytes.begin());
  return digests;
}

std::uint64_t read_piece_bytes(const Fields& info, bool has_v2) {
  const std::uint64_t bytes = info.number("piece length");
  if (bytes == 0 || bytes > kPieceBytesMax)
    info.refuse("piece length", "is " + std::to_string(bytes) + ", expected 1 to 536870912");
  // BEP 52 requires a power of two; BEP 3 allows any length.
  if (has_v2 && (bytes < base::kMerkleBlockBytes || !std::has_single_bit(bytes)))
    info.refuse("piece length",
                "is " + std::to_string(bytes) + ", expected a power of two of at least 16384");
  return bytes;
}

void check_piece_count(std::uint64_t pieces, const std::string& subject) {
  if (pieces > kPiecesMax)
    base::throw_malformed(
        subject, "has " + std::to_string(pieces) + " pieces, expected at most " + std::to_string(kPiecesMax));
}

void read_v1_pieces(const Fields& info, ReleaseLayout& layout) {
  const std::string_view pieces = info.string("pieces");
  // The number of pieces follows from the lengths of the files. It is computed from them and compared, so
  // that no later code finds a piece without a hash or a hash without a piece.
  const std::uint64_t expected = base::divide_up(stream_bytes(layout, info.subject()), layout.piece_bytes);
  check_piece_count(expected, info.subject());
  if (pieces.size() != expected * base::Sha1::kBytes)
    info.refuse("pieces", "has " + std::to_string(pieces.size()) + " bytes, expected " +
                              std::to_string(expected * base::Sha1::kBytes) + " for " +
                              std::to_string(expected) + " pieces");
  layout.v1_pieces = split_digests<base::Sha1>(pieces);
}

// BEP 52: "meta version" is 2 for this revision, and a higher one is an incompatible change that a client
// must refuse. Version 1 is not assigned, so a lower number is read as v1.
bool read_v2_version(const Fields& info) {
  if (!info.has("meta version")) return false;
  const std::uint64_t version = info.number("meta version");
  if (version > 2) info.refuse("meta version", "is " + std::to_string(version) + ", which is not supported");
  return version == 2;
}

/// `names` has read names when it returns, so that the caller can ask whether the encoding mattered.
ReleaseLayout read_info(const lt::bdecode_node& node, NameCleaner& names, std::string_view subject) {
  const Fields info(node, std::string(subject));
  ReleaseLayout layout;
  // BEP 52: "meta version" 2 marks a v2 torrent, and "pieces" beside it makes it a hybrid.
  const bool has_v2 = read_v2_version(info);
  const bool has_v1 = !has_v2 || info.has("pieces");
  if (!has_v1 && (info.has("files") || info.has("length")))
    base::throw_malformed(subject, "has a v1 file list without 'pieces'");
  layout.name = names.clean(info.string(info.utf8_key("name")));
  layout.piece_bytes = read_piece_bytes(info, has_v2);
  read_files(info, has_v1, has_v2, names, layout);
  std::ranges::move(names.warnings(), std::back_inserter(layout.warnings));
  format::check_release_names(layout, subject);
  if (has_v1) read_v1_pieces(info, layout);
  if (has_v2) {
    std::uint64_t pieces = 0;  // each at most 2^48 / 2^14, and there are at most kTokensMax files
    for (const ReleaseFile& file : layout.files)
      pieces += base::divide_up(file.length_bytes, layout.piece_bytes);
    check_piece_count(pieces, info.subject());
  }
  // The info-hashes cover the bytes as they are in the file. A dictionary that was decoded and written again
  // could differ from them, for example in the order of its keys.
  const auto bytes = base::as_bytes(section_of(node));
  if (has_v1) layout.infohash_v1 = base::hash<base::Sha1>(bytes);
  if (has_v2) layout.infohash_v2 = base::hash<base::Sha256>(bytes);
  return layout;
}

// Adds one piece layer after comparing it with the file's root, which the info-hash covers. The layers
// themselves lie outside of the info dictionary, so anybody could have changed them.
void add_layer(ReleaseFile& file, std::string_view layer, std::uint64_t piece_bytes,
               std::string_view subject) {
  const std::uint64_t pieces = base::divide_up(file.length_bytes, piece_bytes);
  if (layer.size() != pieces * base::Sha256::kBytes)
    base::throw_malformed(subject, "piece layer of '" + file.path + "' has " + std::to_string(layer.size()) +
                                       " bytes, expected " + std::to_string(pieces * base::Sha256::kBytes));
  auto nodes = split_digests<base::Sha256>(layer);
  const auto height = static_cast<unsigned>(std::countr_zero(piece_bytes / base::kMerkleBlockBytes));
  // The layer is `height` levels above the blocks; missing nodes at its end are roots of subtrees of zero
  // hashes.
  if (base::merkle_root(nodes, height) != *file.root)
    base::throw_malformed(subject, "piece layer of '" + file.path + "' does not belong to its pieces root");
  file.piece_layer = std::move(nodes);
}

void add_layers(ReleaseLayout& layout, const lt::bdecode_node& layers, std::string_view subject) {
  if (layers.type() != lt::bdecode_node::dict_t)
    base::throw_malformed(subject, "key 'piece layers' is not a dictionary");
  // The dictionary is keyed by root, so files with equal content share a layer.
  std::map<std::string_view, std::string_view> by_root;
  for (int i = 0; i < layers.dict_size(); ++i) {
    const auto [root, layer] = layers.dict_at(i);
    if (layer.type() != lt::bdecode_node::string_t)
      base::throw_malformed(subject, "key 'piece layers' has a layer that is not a string");
    by_root.emplace(to_view(root), to_view(layer.string_value()));
  }
  for (ReleaseFile& file : layout.files) {
    // BEP 52: a file of at most one piece has no layer. A layer that is missing is not an error, because a
    // magnet link brings none; the fetch gets it from peers.
    if (!file.root || file.length_bytes <= layout.piece_bytes) continue;
    const auto found = by_root.find(base::as_text(file.root->bytes));
    if (found != by_root.end()) add_layer(file, found->second, layout.piece_bytes, subject);
  }
}

/// Collects trackers and web seeds. They are only advice, so a value that is not a string, is too long, or
/// comes after the first hundred is ignored and not an error.
void add_strings(const lt::bdecode_node& node, std::vector<std::string>& out) {
  constexpr std::size_t kStringsMax = 100;
  constexpr std::size_t kStringBytesMax = 8 << 10;
  if (out.size() >= kStringsMax) return;
  if (node.type() == lt::bdecode_node::string_t) {
    const std::string_view text = to_view(node.string_value());
    if (text.empty() || text.size() > kStringBytesMax || std::ranges::find(out, text) != out.end()) return;
    out.emplace_back(text);
  } else if (node.type() == lt::bdecode_node::list_t) {
    for (int i = 0; i < node.list_size(); ++i) add_strings(node.list_at(i), out);
  }
}

/// Receives the bytes of a .torrent part by part, so that the whole need not be in memory.
using Sink = std::function<void(std::string_view)>;

void emit_layers(const ReleaseLayout& layout, const Sink& sink) {
  // Sorted by root, as bencode requires; files with equal content write their common layer once.
  std::map<std::string_view, const ReleaseFile*> by_root;
  for (const ReleaseFile& file : layout.files)
    if (!file.piece_layer.empty()) by_root.emplace(base::as_text(file.root->bytes), &file);
  sink("d");
  for (const auto& [root, file] : by_root) {
    const std::string_view layer = base::as_text(std::as_bytes(std::span(file->piece_layer)));
    std::string head;
    bencode::append(head, root);
    head += std::to_string(layer.size()) + ':';
    sink(head);
    sink(layer);
  }
  sink("e");
}

std::string trackers_text(const std::vector<std::string>& trackers) {
  std::string out;
  if (!trackers.empty()) {
    // BEP 12 readers ignore "announce" when there is a list; older ones know only "announce".
    bencode::append(out, "announce");
    bencode::append(out, trackers.front());
  }
  if (trackers.size() > 1) {
    bencode::append(out, "announce-list");
    out += 'l';
    for (const std::string& tracker : trackers) {  // each tracker is a tier of its own (BEP 12)
      out += 'l';
      bencode::append(out, tracker);
      out += 'e';
    }
    out += 'e';
  }
  return out;
}

// The keys of the top level in sorted order, as bencode requires: announce, announce-list, encoding, info,
// piece layers, url-list.
void emit(const Torrent& torrent, const Sink& sink) {
  std::string head = "d" + trackers_text(torrent.trackers);
  if (!torrent.encoding.empty()) {
    bencode::append(head, "encoding");
    bencode::append(head, torrent.encoding);
  }
  bencode::append(head, "info");
  sink(head);
  sink(torrent.info);
  std::string tail;
  if (torrent.layout.infohash_v2) {
    bencode::append(tail, "piece layers");
    sink(tail);
    emit_layers(torrent.layout, sink);
    tail.clear();
  }
  if (!torrent.web_seeds.empty()) {
    bencode::append(tail, "url-list");
    tail += 'l';
    for (const std::string& url : torrent.web_seeds) bencode::append(tail, url);
    tail += 'e';
  }
  sink(tail += 'e');
}

/// The encoding of names in old torrents; a value of another type is as good as none.
std::string_view read_encoding(const Fields& torrent) {
  const auto node = torrent.dict().dict_find("encoding");
  return node && node.type() == lt::bdecode_node::string_t ? to_view(node.string_value()) : "";
}

/// A parsed .torrent, and the place of the info dictionary in its content.
struct Parts {
  Torrent torrent;  // without info
  std::size_t info_start = 0;
  std::size_t info_bytes = 0;
};

Parts parse_parts(std::string_view content, std::string_view subject, const TorrentLimits& limits) {
  // `root` owns the tokens and refers to `content`; every view below is copied into the result before it
  // ends.
  const lt::bdecode_node root = decode(content, subject, limits);
  const Fields fields(root.non_owning(), std::string(subject));
  const lt::bdecode_node info = fields.dictionary("info");
  Parts parts;
  parts.info_start = static_cast<std::size_t>(section_of(info).data() - content.data());
  parts.info_bytes = section_of(info).size();
  Torrent& torrent = parts.torrent;
  NameCleaner names(read_encoding(fields));
  torrent.layout = read_info(info, names, subject);
  torrent.encoding = names.encoding_to_keep();
  if (const std::size_t end = section_of(root).size(); end != content.size())
    torrent.layout.warnings.push_back("the torrent has " + base::to_counted(content.size() - end, "byte") +
                                      " after its end, which are ignored");
  if (fields.has("piece layers")) add_layers(torrent.layout, root.dict_find("piece layers"), subject);
  add_strings(root.dict_find("announce"), torrent.trackers);
  add_strings(root.dict_find("announce-list"), torrent.trackers);
  add_strings(root.dict_find("url-list"), torrent.web_seeds);
  return parts;
}

}  // namespace

Torrent parse_torrent_file(std::string content, std::string_view subject, const TorrentLimits& limits) {
  Parts parts = parse_parts(content, subject, limits);
  // Cuts the info dictionary out in place, because a copy could take another 160 MiB.
  content.resize(parts.info_start + parts.info_bytes);
  content.erase(0, parts.info_start);
  parts.torrent.info = std::move(content);
  return std::move(parts.torrent);
}

ReleaseLayout parse_info(std::string_view info, std::string_view subject, const TorrentLimits& limits) {
  const lt::bdecode_node node = decode(info, subject, limits);
  require_no_more(node, info, subject);
  NameCleaner names("");
  return read_info(node.non_owning(), names, subject);
}

void add_piece_layers(ReleaseLayout& layout, std::string_view layers, std::string_view subject) {
  const lt::bdecode_node node = decode(layers, subject, {});
  require_no_more(node, layers, subject);
  add_layers(layout, node, subject);
}

std::uint64_t count_tokens(std::string_view bencode) {
  std::uint64_t tokens = 1;  // bdecode() adds one at the end
  for (std::size_t at = 0; at < bencode.size();) {
    const char c = bencode[at];
    ++tokens;
    if (c == 'i') {
      at = std::min(bencode.find('e', at), bencode.size() - 1) + 1;
    } else if (base::is_digit(c)) {
      const std::size_t colon = bencode.find(':', at);
      const auto length = base::parse_uint(bencode.substr(at, std::min(colon, bencode.size()) - at));
      if (colon == bencode.npos || !length || *length > bencode.size() - colon) break;  // not bencode
      at = colon + 1 + *length;
    } else {  // the start or the end of a list or dictionary
      ++at;
    }
  }
  return tokens;
}

std::string to_text(const Torrent& torrent) {
  // Emits twice: the first pass measures, so that the string is allocated once.
  std::size_t bytes = 0;
  emit(torrent, [&](std::string_view part) { bytes += part.size(); });
  std::string out;
  out.reserve(bytes);
  emit(torrent, [&](std::string_view part) { out += part; });
  return out;
}

void write_torrent(const std::filesystem::path& path, const Torrent& torrent) {
  base::AtomicFile atomic(path);
  std::uint64_t offset_bytes = 0;
  emit(torrent, [&](std::string_view part) {
    atomic.file().write_at(offset_bytes, base::as_bytes(part));
    offset_bytes += part.size();
  });
  atomic.commit();
}

std::string torrent_key(const ReleaseLayout& layout) {
  return layout.infohash_v1 ? base::to_hex(*layout.infohash_v1) : base::to_hex(*layout.infohash_v2);
}

ReleaseLayout parse_torrent(std::string_view content, std::string_view subject) {
  return parse_parts(content, subject, {}).torrent.layout;
}

ReleaseLayout read_torrent(const std::filesystem::path& file) {
  return parse_torrent(base::read_text_file(file, kTorrentBytesMax), file.string());
}

}  // namespace sluice::fetch
