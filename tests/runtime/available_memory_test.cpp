#include "runtime/memory/available_memory.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "base/file.h"
#include "tests/support/temp_dir.h"

using namespace sluice;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

void put(const tests::TempDir& root, const std::string& path, const std::string& text) {
  const auto full = root.path() / path;
  base::make_directories(full.parent_path());
  base::write_file(full, base::as_bytes(text));
}

std::string mib(std::uint64_t count) { return std::to_string(count * kMiB) + "\n"; }

}  // namespace

TEST_CASE("what is free is what the kernel says, when no group limits it") {
  const tests::TempDir root;
  put(root, "proc/meminfo", "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:  4096 kB\nHugePages: 0\n");
  CHECK(runtime::available_memory_bytes(root.path()) == 4 * kMiB);
  put(root, "proc/self/cgroup", "0::/a\n");
  put(root, "sys/fs/cgroup/a/memory.max", "max\n");
  put(root, "sys/fs/cgroup/a/memory.current", mib(1));
  CHECK(runtime::available_memory_bytes(root.path()) == 4 * kMiB);
}

TEST_CASE("the tightest of the nested groups limits, and pages of files count as free") {
  const tests::TempDir root;
  put(root, "proc/meminfo", "MemAvailable: 1048576 kB\n");
  put(root, "proc/self/cgroup", "0::/outer/inner\n");
  put(root, "sys/fs/cgroup/outer/inner/memory.max", mib(500));
  put(root, "sys/fs/cgroup/outer/inner/memory.current", mib(490));
  put(root, "sys/fs/cgroup/outer/inner/memory.stat",
      "anon 7\nactive_file " + mib(100) + "inactive_file " + mib(300));
  CHECK(runtime::available_memory_bytes(root.path()) == 410 * kMiB);
  put(root, "sys/fs/cgroup/outer/memory.max", mib(400));
  put(root, "sys/fs/cgroup/outer/memory.current", mib(350));
  CHECK(runtime::available_memory_bytes(root.path()) == 50 * kMiB);
  put(root, "sys/fs/cgroup/outer/memory.current", mib(401));  // over its limit, as it can be for a moment
  CHECK(runtime::available_memory_bytes(root.path()) == 0);
}

TEST_CASE("groups of version 1 are asked beside those of version 2") {
  const tests::TempDir root;
  put(root, "proc/meminfo", "MemAvailable: 1048576 kB\n");
  put(root, "proc/self/cgroup", "5:devices:/x\n4:cpu,memory:/job\n0::/\nnonsense\n");
  put(root, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", mib(200));
  put(root, "sys/fs/cgroup/memory/job/memory.usage_in_bytes", mib(150));
  put(root, "sys/fs/cgroup/memory/job/memory.stat",
      "inactive_file 1\ntotal_inactive_file " + mib(100) + "total_active_file " + mib(20));
  CHECK(runtime::available_memory_bytes(root.path()) == 170 * kMiB);
}
