#include "fetch/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstring>

namespace sluice::fetch {
namespace {

std::string to_lower(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return lower;
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0 || port > 65535)
    return std::nullopt;
  return static_cast<std::uint16_t>(port);
}

bool is_host_name(std::string_view text) {
  constexpr std::size_t kNameMax = 253;  // RFC 1035
  constexpr std::size_t kLabelMax = 63;
  if (text.empty() || text.size() > kNameMax) return false;
  if (text.back() == '.') text.remove_suffix(1);
  std::size_t label = 0;
  for (const char c : text) {
    if (c == '.') {
      if (label == 0) return false;
      label = 0;
      continue;
    }
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '_') return false;
    if (++label > kLabelMax) return false;
  }
  return label > 0;
}

/// The address in network order: 4 or 16 bytes, in `out`; 0 when `host` is none. inet_aton's short forms
/// ("127.1", "0x7f000001", "2130706433") count, since resolvers take them.
std::size_t parse_address(std::string_view host, std::array<unsigned char, 16>& out) {
  const std::string text(host.substr(0, host.find('%')));  // without an IPv6 zone
  in_addr v4{};
  if (inet_aton(text.c_str(), &v4) != 0) {
    std::memcpy(out.data(), &v4, sizeof v4);
    return 4;
  }
  return inet_pton(AF_INET6, text.c_str(), out.data()) == 1 ? 16 : 0;
}

bool is_private_v4(const unsigned char* a) {
  return a[0] == 0 || a[0] == 10 || a[0] == 127 || a[0] >= 224  // RFC 1122, 1918, 5771
         || (a[0] == 100 && a[1] >= 64 && a[1] < 128)           // RFC 6598
         || (a[0] == 169 && a[1] == 254)                        // RFC 3927: cloud metadata lives here
         || (a[0] == 172 && a[1] >= 16 && a[1] < 32)            // RFC 1918
         || (a[0] == 192 && a[1] == 168);                       // RFC 1918
}

bool is_private_v6(const unsigned char* a) {
  constexpr std::array<unsigned char, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};  // RFC 4291
  constexpr std::array<unsigned char, 12> kNat64{0, 0x64, 0xff, 0x9b};                        // RFC 6052
  if (std::equal(kMapped.begin(), kMapped.end(), a) || std::equal(kNat64.begin(), kNat64.end(), a))
    return is_private_v4(a + 12);
  // ::/96 with loopback and unspecified, multicast, link-local, site-local, unique local
  return std::all_of(a, a + 12, [](unsigned char byte) { return byte == 0; }) || a[0] == 0xff ||
         (a[0] == 0xfe && (a[1] & 0x80) != 0) || (a[0] & 0xfe) == 0xfc;
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
  const std::size_t colon = text.rfind(':');
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

std::optional<Url> parse_url(std::string_view text) {
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7f; }))
    return std::nullopt;
  const std::size_t mark = text.find("://");
  if (mark == text.npos || mark == 0) return std::nullopt;
  Url url;
  url.scheme = to_lower(text.substr(0, mark));
  if (!std::ranges::all_of(url.scheme,
                           [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }))
    return std::nullopt;
  std::string authority(text.substr(mark + 3));
  authority.resize(std::min(authority.find_first_of("/?#"), authority.size()));
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

bool is_private_host(std::string_view host) {
  std::array<unsigned char, 16> address{};
  switch (parse_address(host, address)) {
    case 4: return is_private_v4(address.data());
    case 16: return is_private_v6(address.data());
    default: break;
  }
  std::string name = to_lower(host);
  if (name.ends_with('.')) name.pop_back();
  return name == "localhost" || name.ends_with(".localhost") || name.ends_with(".local") ||
         name.ends_with(".internal");
}

}  // namespace sluice::fetch
