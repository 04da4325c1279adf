// Reads what the kernel tells about memory: /proc/meminfo (proc(5)) and the files of memory control groups,
// version 2 (the kernel's cgroup-v2.rst) and version 1 (cgroup-v1/memory.rst). A container or a systemd unit
// often has less than the machine, and the process is killed when it takes more than its group may.

#include "runtime/memory/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace sluice::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

std::uint64_t read_number(const fs::path& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  return file >> number ? number : kUnlimited;  // "max" fails to parse, and so does a missing file
}

/// The sum of the values of two keys in lines "key value".
std::uint64_t sum_of_keys(const fs::path& path, const std::string& a, const std::string& b) {
  std::ifstream file(path);
  std::uint64_t sum = 0;
  std::string key;
  for (std::uint64_t value = 0; file >> key >> value;)
    if (key == a || key == b) sum += value;
  return sum;
}

struct GroupFiles {
  const char* limit;
  const char* used;
  const char* active_file;  ///< keys of memory.stat, which count the groups below too
  const char* inactive_file;
};
constexpr GroupFiles kVersion2{"memory.max", "memory.current", "active_file", "inactive_file"};
constexpr GroupFiles kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file",
                               "total_inactive_file"};

std::uint64_t left_in_group(const fs::path& group, const GroupFiles& files) {
  const std::uint64_t limit = read_number(group / files.limit);
  const std::uint64_t used = read_number(group / files.used);
  if (limit == kUnlimited || used == kUnlimited) return kUnlimited;
  // Pages of files count as used in the group, but the kernel drops them before it kills. Both values are
  // read at different times, hence the minimum.
  const std::uint64_t pages_of_files =
      std::min(used, sum_of_keys(group / "memory.stat", files.active_file, files.inactive_file));
  const std::uint64_t kept = used - pages_of_files;
  return limit > kept ? limit - kept : 0;
}

/// The least that is left in `group` (a path below `mount` that starts with "/") and in all groups that
/// contain it: each of them limits its members.
std::uint64_t left_in_groups(const fs::path& mount, const std::string& group, const GroupFiles& files) {
  std::uint64_t left = left_in_group(mount, files);
  fs::path at = mount;
  for (const fs::path& part : fs::path(group).relative_path()) {
    at /= part;
    left = std::min(left, left_in_group(at, files));
  }
  return left;
}

}  // namespace

std::uint64_t available_memory_bytes(const fs::path& root) {
  std::uint64_t available = kUnlimited;
  std::ifstream memory(root / "proc/meminfo");
  std::string key;
  std::uint64_t kibibytes = 0;
  for (std::string unit; memory >> key >> kibibytes; std::getline(memory, unit))
    if (key == "MemAvailable:") available = kibibytes * 1024;

  // Lines "number:controllers:path"; version 2 has number 0 and no controllers (cgroups(7)).
  const fs::path mount = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = ',' + line.substr(first + 1, second - first - 1) + ',';
    const std::string group = line.substr(second + 1);
    if (controllers == ",,") {
      available = std::min(available, left_in_groups(mount, group, kVersion2));
    } else if (controllers.find(",memory,") != std::string::npos) {
      available = std::min(available, left_in_groups(mount / "memory", group, kVersion1));
    }
  }
  return available;
}

}  // namespace sluice::runtime
