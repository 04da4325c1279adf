#pragma once
// Which addresses stand in the networks that this machine is directly connected to.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace sluice::fetch {

/// IPv4, in the machine's byte order.
struct LocalInterface {
  std::uint32_t address;
  std::uint32_t netmask;
};

/// In the network of one of the interfaces, and none of their own addresses or `gateways`: behind a gateway
/// (a router, a container's host) strangers can stand.
[[nodiscard]] bool is_neighbour(std::uint32_t address, std::span<const LocalInterface> interfaces,
                                std::span<const std::uint32_t> gateways);

/// The gateways in the text of /proc/net/route.
[[nodiscard]] std::vector<std::uint32_t> parse_gateways(std::string_view route);

/// Whether an IPv4 address is in a network of this machine as it is configured now. False when the routing
/// table cannot be read, because then nobody knows which addresses are gateways.
[[nodiscard]] bool is_neighbour(std::uint32_t address);

}  // namespace sluice::fetch
