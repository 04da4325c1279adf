#pragma once
// Where a release says that peers and trackers are: checks of URLs and "host:port" that come from outside.

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
  HostPort host;       ///< with the scheme's own port when the URL names none; 0 for udp without one
};

/// Nothing when it is not "scheme://host[:port][/...]" with a plausible host and port, or when it has a user
/// name.
[[nodiscard]] std::optional<Url> parse_url(std::string_view text);

/// Why a tracker cannot be used: empty when it can (udp, http or https).
[[nodiscard]] std::string tracker_problem(std::string_view url);
/// The same for a web seed (http or https).
[[nodiscard]] std::string web_seed_problem(std::string_view url);

/// Addresses of IPv6, those of IPv4 as ::ffff:0:0/96; both ends belong to it.
struct AddressRange {
  std::array<unsigned char, 16> first;
  std::array<unsigned char, 16> last;
};

/// What a stranger's word must not lead to: loopback, private, link-local, multicast, unspecified, cloud
/// metadata services; also where IPv6 embeds such an IPv4 address (mapped, NAT64, 6to4).
[[nodiscard]] const std::vector<AddressRange>& private_ranges();
[[nodiscard]] bool is_private_address(const std::array<unsigned char, 16>& address);

/// True for addresses in private_ranges(), "localhost" and names in ".local" or ".internal". Other names are
/// not looked up here.
[[nodiscard]] bool is_private_host(std::string_view host);

}  // namespace sluice::fetch
