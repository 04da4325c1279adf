#include "fetch/net/local_network.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>

#include "base/ascii.h"

namespace sluice::fetch {
namespace {

std::uint32_t to_v4(const sockaddr* address) {
  return ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr);
}

std::vector<LocalInterface> list_interfaces() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, &::freeifaddrs);
  std::vector<LocalInterface> interfaces;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_netmask == nullptr) continue;
    // Peers on loopback are on this machine and not in the local network.
    if (entry->ifa_addr->sa_family != AF_INET || (entry->ifa_flags & IFF_LOOPBACK) != 0) continue;
    interfaces.push_back({to_v4(entry->ifa_addr), to_v4(entry->ifa_netmask)});
  }
  return interfaces;
}

}  // namespace

bool is_neighbour(std::uint32_t address, std::span<const LocalInterface> interfaces,
                  std::span<const std::uint32_t> gateways) {
  if (std::ranges::find(gateways, address) != gateways.end()) return false;
  if (std::ranges::find(interfaces, address, &LocalInterface::address) != interfaces.end()) return false;
  return std::ranges::any_of(interfaces, [&](const LocalInterface& interface) {
    return interface.netmask != 0 && (address & interface.netmask) == (interface.address & interface.netmask);
  });
}

std::vector<std::uint32_t> parse_gateways(std::string_view route) {
  std::vector<std::uint32_t> gateways;
  std::istringstream lines{std::string(route)};
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string interface;
    std::string destination;
    std::string gateway;
    if (!(words >> interface >> destination >> gateway)) continue;
    const auto raw = base::parse_integer<std::uint32_t>(gateway, 16);  // the bytes are in network order
    if (raw && *raw != 0) gateways.push_back(ntohl(*raw));
  }
  return gateways;
}

bool is_neighbour(std::uint32_t address) {
  // Read anew each time: a laptop changes its network, and the call is rare.
  std::ifstream file("/proc/net/route");
  const std::string route{std::istreambuf_iterator<char>(file), {}};
  if (route.empty()) return false;
  return is_neighbour(address, list_interfaces(), parse_gateways(route));
}

}  // namespace sluice::fetch
