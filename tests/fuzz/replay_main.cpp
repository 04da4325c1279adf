// Feeds a fuzz target every file of its corpus, and of each file some cut and damaged versions, always the
// same ones. What goes wrong ends the program: a crash, a sanitizer, or an exception that is no base::Error.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr int kVersionsOfEach = 200;
constexpr std::size_t kFlipsMax = 8;

void replay_damaged(const std::vector<char>& content) {
  // mt19937's numbers are fixed by the standard; the distributions' are not, so they are not used.
  std::mt19937 random(static_cast<std::uint32_t>(content.size()));
  for (int version = 0; version < kVersionsOfEach; ++version) {
    std::vector<char> damaged = content;
    if (version % 2 == 0) damaged.resize(random() % (damaged.size() + 1));
    for (std::size_t flips = random() % kFlipsMax; flips > 0 && !damaged.empty(); --flips) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    // An own allocation of just that size, so that AddressSanitizer sees a read past its end.
    const std::vector<std::uint8_t> exact(damaged.begin(), damaged.end());
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 2;
  }
  std::vector<std::filesystem::path> files;
  for (const auto& item : std::filesystem::directory_iterator(argv[1])) files.push_back(item.path());
  std::sort(files.begin(), files.end());
  for (const auto& path : files) {
    std::ifstream stream(path, std::ios::binary);
    const std::vector<char> content((std::istreambuf_iterator<char>(stream)),
                                    std::istreambuf_iterator<char>());
    const std::vector<std::uint8_t> exact(content.begin(), content.end());
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
    replay_damaged(content);
  }
  std::printf("%zu files, %d damaged versions of each\n", files.size(), kVersionsOfEach);
  return files.empty() ? 1 : 0;
}
