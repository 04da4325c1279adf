// Files of leaves from strangers.

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/invariant.h"
#include "format/leaf_file.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("leaf_file_fuzz." + std::to_string(::getpid()));
  {
    base::File file = base::File::create(path);
    file.write_at(0, {reinterpret_cast<const std::byte*>(data), size});
  }
  try {
    const format::LeafFile leaves = format::LeafFile::open(path);
    base::Sha256 root;  // the first file's, when there is one
    constexpr std::size_t kRootOffset = 16;
    if (size >= kRootOffset + root.bytes.size())
      std::copy_n(reinterpret_cast<const std::byte*>(data) + kRootOffset, root.bytes.size(),
                  root.bytes.begin());
    const auto found = leaves.read(root, 0, size);
    INVARIANT(found.size() * base::Sha256::kBytes <= size);
  } catch (const base::Error&) {
  }
  std::filesystem::remove(path);
  return 0;
}
