// Parsers of host names, ports, URLs and addresses, and the table of private address ranges. All functions
// are pure, so any thread may call them; none of them resolves a name.

#include "fetch/net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <span>

#include "base/ascii.h"

namespace sluice::fetch {
namespace {

std::optional<std::uint16_t> parse_port(std::string_view text) {
  const auto port = base::parse_integer<std::uint16_t>(text);
  return port == 0 ? std::nullopt : port;
}

// RFC 1123 allows letters, digits and hyphens. The underscore is not allowed there but is found in practice.
bool is_host_name(std::string_view text) {
  constexpr std::size_t kNameMax = 253;  // RFC 1035
  constexpr std::size_t kLabelMax = 63;
  if (text.empty() || text.size() > kNameMax) return false;
  if (text.back() == '.') text.remove_suffix(1);  // a fully qualified name
  std::size_t label = 0;
  for (const char c : text) {
    if (c == '.') {
      if (label == 0) return false;
      label = 0;
      continue;
    }
    if (!base::is_alphanumeric(c) && c != '-' && c != '_') return false;
    if (++label > kLabelMax) return false;
  }
  return label > 0;
}

/// Parses an address into the first 4 or 16 bytes of `out`, in network order, and returns their number; 0
/// when `host` is not an address. inet_aton's short forms ("127.1", "0x7f000001", "2130706433") count,
/// because resolvers accept them.
std::size_t parse_address(std::string_view host, std::array<unsigned char, 16>& out) {
  const std::string text(host.substr(0, host.find('%')));  // without an IPv6 zone
  in_addr v4{};
  if (inet_aton(text.c_str(), &v4) != 0) {
    std::memcpy(out.data(), &v4, sizeof v4);
    return 4;
  }
  return inet_pton(AF_INET6, text.c_str(), out.data()) == 1 ? 16 : 0;
}

using V6Bytes = std::array<unsigned char, 16>;

struct V4Block {
  std::uint32_t first;
  std::uint32_t last;
};

// Addresses that a stranger must not make this machine connect to: its own, those of its network, and the
// services of a cloud that hand out credentials (server-side request forgery).
constexpr std::array kPrivateV4{
    V4Block{0x00000000, 0x00ffffff},  // 0.0.0.0/8, RFC 1122
    V4Block{0x0a000000, 0x0affffff},  // 10/8, RFC 1918
    V4Block{0x64400000, 0x647fffff},  // 100.64/10, RFC 6598; a metadata service is at 100.100.100.200
    V4Block{0x7f000000, 0x7fffffff},  // 127/8, RFC 1122
    V4Block{0xa83f8110, 0xa83f8110},  // 168.63.129.16: a cloud's metadata service at a public address
    V4Block{0xa9fe0000, 0xa9feffff},  // 169.254/16, RFC 3927; metadata services are at 169.254.169.254
    V4Block{0xac100000, 0xac1fffff},  // 172.16/12, RFC 1918
    V4Block{0xc0000000, 0xc00000ff},  // 192.0.0/24, RFC 6890; a metadata service is at 192.0.0.192
    V4Block{0xc0a80000, 0xc0a8ffff},  // 192.168/16, RFC 1918
    V4Block{0xc6120000, 0xc613ffff},  // 198.18/15, RFC 2544
    V4Block{0xe0000000, 0xffffffff},  // multicast, reserved, broadcast: RFC 5771, 1112, 919
};

/// The IPv6 address that consists of `prefix`, the IPv4 address, and bytes of `fill`.
V6Bytes embed(std::span<const unsigned char> prefix, std::uint32_t v4, unsigned char fill) {
  V6Bytes bytes{};
  std::ranges::fill(bytes, fill);
  std::ranges::copy(prefix, bytes.begin());
  for (std::size_t i = 0; i < 4; ++i)
    bytes[prefix.size() + i] = static_cast<unsigned char>(v4 >> (24 - 8 * i));
  return bytes;
}

/// The range from `first` filled up with zeros to `last` filled up with ones.
AddressRange whole(std::initializer_list<unsigned char> first, std::initializer_list<unsigned char> last) {
  AddressRange range{};
  range.last.fill(0xff);
  std::ranges::copy(first, range.first.begin());
  std::ranges::copy(last, range.last.begin());
  return range;
}

// Each private IPv4 block has three IPv6 forms through which a socket can reach it.
std::vector<AddressRange> make_private_ranges() {
  constexpr std::array<unsigned char, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};  // RFC 4291
  constexpr std::array<unsigned char, 12> kNat64{0, 0x64, 0xff, 0x9b};                        // RFC 6052
  constexpr std::array<unsigned char, 2> k6to4{0x20, 0x02};                                   // RFC 3056
  std::vector<AddressRange> ranges;
  for (const auto& [first, last] : kPrivateV4) {
    ranges.push_back({embed(kMapped, first, 0), embed(kMapped, last, 0xff)});
    ranges.push_back({embed(kNat64, first, 0), embed(kNat64, last, 0xff)});
    ranges.push_back({embed(k6to4, first, 0), embed(k6to4, last, 0xff)});
  }
  ranges.push_back(whole({}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));  // ::/96 with ::1, RFC 4291
  ranges.push_back(whole({0, 0x64, 0xff, 0x9b, 0, 1}, {0, 0x64, 0xff, 0x9b, 0, 1}));  // RFC 8215
  ranges.push_back(whole({0xfc}, {0xfd}));        // unique local, RFC 4193
  ranges.push_back(whole({0xfe, 0x80}, {0xfe}));  // link-local and site-local, RFC 4291, 3879
  ranges.push_back(whole({0xff}, {0xff}));        // multicast
  return ranges;
}

V6Bytes map_v4(const V6Bytes& v4) {
  V6Bytes mapped{};
  mapped[10] = mapped[11] = 0xff;
  std::copy_n(v4.begin(), 4, mapped.begin() + 12);
  return mapped;
}

std::string url_problem(std::string_view text, bool with_udp) {
  const auto url = parse_url(text);
  if (!url) return "is not a usable URL";
  if (url->scheme != "http" && url->scheme != "https" && !(with_udp && url->scheme == "udp"))
    return "has the scheme '" + url->scheme + "', which is not supported";
  if (url->host.port == 0) return "has no port";
  return "";
}

}  // namespace

std::optional<HostPort> parse_host_port(std::string_view text) {
  const std::size_t colon = text.rfind(':');  // the last one: an IPv6 address has colons, too
  if (colon == text.npos) return std::nullopt;
  const auto port = parse_port(text.substr(colon + 1));
  std::string_view host = text.substr(0, colon);
  if (!port) return std::nullopt;
  std::array<unsigned char, 16> address{};
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
    if (parse_address(host, address) != 16) return std::nullopt;
  } else if (!is_host_name(host)) {
    return std::nullopt;
  }
  return HostPort{std::string(host), *port};
}

// A user name is refused, because '@' is not allowed in a host: programs disagree about the host of a URL
// such as "http://good.org@evil.org".
std::optional<Url> parse_url(std::string_view text) {
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7f; }))
    return std::nullopt;
  const std::size_t mark = text.find("://");
  if (mark == text.npos || mark == 0) return std::nullopt;
  Url url;
  url.scheme = base::to_lower(text.substr(0, mark));
  if (!std::ranges::all_of(url.scheme, base::is_alphanumeric)) return std::nullopt;
  std::string authority(text.substr(mark + 3));
  authority.resize(std::min(authority.find_first_of("/?#"), authority.size()));
  // A colon inside brackets belongs to an IPv6 address and does not start a port.
  const bool has_port =
      authority.find(':', authority.find(']') == authority.npos ? 0 : authority.find(']')) != authority.npos;
  if (!has_port) authority += url.scheme == "https" ? ":443" : ":80";
  const auto host = parse_host_port(authority);
  if (!host) return std::nullopt;
  url.host = *host;
  if (!has_port && url.scheme == "udp") url.host.port = 0;
  return url;
}

std::string tracker_problem(std::string_view url) { return url_problem(url, true); }
std::string web_seed_problem(std::string_view url) { return url_problem(url, false); }

const std::vector<AddressRange>& private_ranges() {
  static const std::vector<AddressRange> ranges = make_private_ranges();
  return ranges;
}

bool is_private_address(const std::array<unsigned char, 16>& address) {
  return std::ranges::any_of(private_ranges(), [&](const AddressRange& range) {
    return range.first <= address && address <= range.last;
  });
}

bool is_private_host(std::string_view host) {
  V6Bytes address{};
  switch (parse_address(host, address)) {
    case 4: return is_private_address(map_v4(address));
    case 16: return is_private_address(address);
    default: break;
  }
  // Names for the local machine or network (RFC 6761, RFC 6762, and ".internal", which ICANN reserves).
  std::string name = base::to_lower(host);
  if (name.ends_with('.')) name.pop_back();
  return name == "localhost" || name.ends_with(".localhost") || name.ends_with(".local") ||
         name.ends_with(".internal");
}

}  // namespace sluice::fetch
