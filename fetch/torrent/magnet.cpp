// Parses magnet links (BEP 9, and BEP 52 for btmh), including links that chat programs and web pages have
// altered: keys in upper case, numbered keys ("tr.1"), "&amp;" in place of "&". A link is text that strangers
// write, so its length and the number of its entries are bounded.
//
// Only the info-hash is needed. Whatever else cannot be used costs a warning, because the rest of the link
// may still lead to peers.

#include <algorithm>
#include <array>
#include <optional>

#include "base/ascii.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"
#include "fetch/fetch.h"
#include "fetch/net/address.h"

namespace sluice::fetch {
namespace {

constexpr std::size_t kMagnetBytesMax = 1 << 20;
constexpr std::size_t kEntriesMax = 1000;  // of trackers, of web seeds, of peers and of warnings

/// RFC 4648 base32 of 20 bytes: 32 characters.
std::optional<base::Sha1> parse_base32(std::string_view text) {
  if (text.size() != 32) return std::nullopt;
  base::Sha1 digest;
  std::uint32_t bits = 0;
  unsigned bit_count = 0;
  std::size_t filled = 0;
  for (const char c : base::to_lower(text)) {
    unsigned value = 0;
    if (c >= 'a' && c <= 'z') {
      value = static_cast<unsigned>(c - 'a');
    } else if (c >= '2' && c <= '7') {
      value = static_cast<unsigned>(c - '2') + 26;
    } else {
      return std::nullopt;
    }
    bits = (bits << 5 | value) & 0xfff;  // at most 7 bits are left over from the previous character
    bit_count += 5;
    if (bit_count >= 8) {
      bit_count -= 8;
      digest.bytes[filled++] = static_cast<std::byte>(bits >> bit_count & 0xff);
    }
  }
  return digest;
}

class MagnetParser {
 public:
  Magnet parse(std::string_view text) {
    if (text.size() > kMagnetBytesMax) fail("is longer than 1 MiB");
    const std::string link = clean_link(text);
    std::string_view uri = link;
    constexpr std::string_view kScheme = "magnet:?";
    if (!base::starts_with_ignoring_case(uri, kScheme)) fail("is not a magnet link");
    uri.remove_prefix(kScheme.size());
    while (!uri.empty()) {
      const std::size_t end = std::min(uri.find('&'), uri.size());
      read_parameter(uri.substr(0, end));
      uri.remove_prefix(std::min(end + 1, uri.size()));
    }
    if (!magnet_.infohash_v1 && !magnet_.infohash_v2)
      fail(problem_.empty() ? "has no info-hash (xt=urn:btih:... or xt=urn:btmh:...)" : problem_);
    return std::move(magnet_);
  }

 private:
  [[noreturn]] static void fail(const std::string& why) {
    throw base::Error(base::ErrorKind::usage, "magnet link: " + why);
  }

  void read_parameter(std::string_view parameter) {
    const std::size_t equals = parameter.find('=');
    if (equals == parameter.npos) return;
    std::string key = base::to_lower(base::percent_decode(parameter.substr(0, equals)));
    if (key.starts_with("amp;")) key.erase(0, 4);  // copied from the source of a web page
    const std::string decoded = base::percent_decode(parameter.substr(equals + 1));
    const std::string value(base::trim_blanks(decoded));
    if (key == "xt" || key.starts_with("xt.")) {
      read_topic(value);
    } else if (key == "dn") {
      magnet_.name = value;
      std::ranges::replace(magnet_.name, '+', ' ');  // some programs encode the name as form data
    } else if (key == "tr" || key.starts_with("tr.")) {
      add(magnet_.trackers, "tracker", value, tracker_problem(value));
    } else if (key == "ws") {
      add(magnet_.web_seeds, "web seed", value, web_seed_problem(value));
    } else if (key == "so") {
      read_selection(value);
    } else if (key == "x.pe") {
      add(magnet_.peers, "peer", value, parse_host_port(value) ? "" : "is not HOST:PORT");
    }
  }

  void read_topic(const std::string& value) {
    constexpr std::string_view kV1 = "urn:btih:";
    constexpr std::string_view kV2 = "urn:btmh:";
    constexpr std::string_view kMultihashSha256 = "1220";  // multiformats: sha2-256, 32 bytes
    // Both prefixes have the same length. The hash after them keeps its case, since the digits of base32 and
    // hex are parsed in either.
    const std::string prefix = base::to_lower(value.substr(0, kV1.size()));
    const std::string_view hash = std::string_view(value).substr(std::min(kV1.size(), value.size()));
    // Unknown kinds of xt are ignored: links may name the same files in other networks, too.
    if (prefix == kV1) {
      auto digest = base::parse_digest<base::Sha1>(hash);
      set(magnet_.infohash_v1, digest ? digest : parse_base32(hash), value);
    } else if (prefix == kV2) {
      std::optional<base::Sha256> digest;
      if (hash.starts_with(kMultihashSha256))
        digest = base::parse_digest<base::Sha256>(hash.substr(kMultihashSha256.size()));
      set(magnet_.infohash_v2, digest, value);
    }
  }

  // BEP 53: indices and ranges of indices, separated by commas, such as "0,2,4-6".
  void read_selection(std::string_view value) {
    while (!value.empty()) {
      const std::size_t end = std::min(value.find(','), value.size());
      const std::string_view part = value.substr(0, end);
      const std::size_t dash = std::min(part.find('-'), part.size());
      const auto first = base::parse_uint(part.substr(0, dash));
      const auto last = dash == part.size() ? first : base::parse_uint(part.substr(dash + 1));
      if (!first || !last || *last < *first) {
        // Without its selection the link would mean all files, which can be a hundred times as many bytes.
        fail("has the malformed selection 'so=" + base::to_printable(part) +
             "', expected such as so=0,2,4-6");
      }
      if (magnet_.selected.size() >= kEntriesMax)
        fail("selects files by more than " + std::to_string(kEntriesMax) + " ranges (so=)");
      magnet_.selected.push_back({*first, *last});
      value.remove_prefix(std::min(end + 1, value.size()));
    }
  }

  template <typename D>
  void set(std::optional<D>& field, const std::optional<D>& digest, const std::string& value) {
    // A link can have a v1 and a v2 hash, and one usable hash is enough; so this is an error only at the end.
    if (!digest) {
      problem_ = "has the malformed info-hash '" + base::to_printable(value) + "'";
      magnet_.warnings.push_back("the magnet link " + problem_);
      // Two hashes of one kind would name two torrents, and picking one would be a guess.
    } else if (field && field != digest) {
      fail("has two different info-hashes of the same kind");
    } else {
      field = digest;
    }
  }

  void add(std::vector<std::string>& list, const char* what, const std::string& value,
           const std::string& problem) {
    if (!problem.empty()) {
      if (magnet_.warnings.size() < kEntriesMax)
        magnet_.warnings.push_back(std::string(what) + " '" + base::to_printable(value) +
                                   "' is left out: it " + problem);
    } else if (list.size() < kEntriesMax && std::ranges::find(list, value) == list.end()) {
      list.push_back(value);
    }
  }

  Magnet magnet_;
  std::string problem_;
};

}  // namespace

Magnet parse_magnet(std::string_view uri) { return MagnetParser().parse(uri); }

}  // namespace sluice::fetch
