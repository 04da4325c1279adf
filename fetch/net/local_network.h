#pragma once
// Tells which addresses belong to the networks to which this machine is directly connected.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace sluice::fetch {

/// An IPv4 address and its netmask, in the machine's byte order.
struct LocalInterface {
  std::uint32_t address;
  std::uint32_t netmask;
};

/// Whether the address is in the network of an interface and is neither an interface's own address nor a
/// gateway. Gateways (a router, a container's host) do not count, because they forward connections of
/// strangers.
[[nodiscard]] bool is_neighbour(std::uint32_t address, std::span<const LocalInterface> interfaces,
                                std::span<const std::uint32_t> gateways);

/// The gateways in the text of /proc/net/route.
[[nodiscard]] std::vector<std::uint32_t> parse_gateways(std::string_view route);

/// Whether an IPv4 address is in a network of this machine as it is configured now. False when the routing
/// table cannot be read, because then nobody knows which addresses are gateways.
[[nodiscard]] bool is_neighbour(std::uint32_t address);

}  // namespace sluice::fetch
