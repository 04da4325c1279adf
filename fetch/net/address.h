#pragma once
// Addresses of peers, trackers and web servers as a release or the user writes them: parsing and checks of
// URLs and "host:port", and the ranges of private addresses.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::fetch {

struct HostPort {
  std::string host;  ///< a name or an address; IPv6 without brackets
  std::uint16_t port = 0;
};

/// Where a peer ("host:port"), tracker, web seed or mirror (a URL) is, and whether the user named it. One
/// that only the release names must not lead to a private address.
struct Endpoint {
  std::string address;
  bool trusted = false;
};

/// "host:port" or "[v6]:port".
[[nodiscard]] std::optional<HostPort> parse_host_port(std::string_view text);

struct Url {
  std::string scheme;  ///< lower case
  HostPort host;  ///< with the scheme's default port when the URL names none; port 0 for udp without a port
};

/// Nothing unless the text is "scheme://host[:port][/...]" with a plausible host and port and without a user
/// name.
[[nodiscard]] std::optional<Url> parse_url(std::string_view text);

/// Why a tracker's URL cannot be used; empty when it can (udp, http or https).
[[nodiscard]] std::string tracker_problem(std::string_view url);
/// Why a web seed's URL cannot be used; empty when it can (http or https).
[[nodiscard]] std::string web_seed_problem(std::string_view url);

/// A closed range of IPv6 addresses in network order; IPv4 addresses are in ::ffff:0:0/96.
struct AddressRange {
  std::array<unsigned char, 16> first;
  std::array<unsigned char, 16> last;
};

/// The addresses to which a release, a tracker or a peer must not send this machine: loopback, private,
/// link-local, multicast, unspecified and cloud metadata services, and IPv6 addresses that embed such an IPv4
/// address (mapped, NAT64, 6to4).
[[nodiscard]] const std::vector<AddressRange>& private_ranges();
[[nodiscard]] bool is_private_address(const std::array<unsigned char, 16>& address);

/// True for addresses in private_ranges(), for "localhost" and for names in ".local" or ".internal". The
/// function does not look up names.
[[nodiscard]] bool is_private_host(std::string_view host);

}  // namespace sluice::fetch
