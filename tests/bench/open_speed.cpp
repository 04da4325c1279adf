// How long it takes to open a container, in milliseconds (closing it is not counted): its directory alone,
// and a model in it, without proofs, with proofs but no record of earlier ones, and with such a record. For
// containers with many experts (random_container --experts 256 --layers 59 --dim 128 --hidden 64 ...). The
// file is in the page cache from the second repetition on; the least and the median of all are told.
//
//   open_speed FILE.sluice [REPETITIONS]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "format/container_reader.h"
#include "runtime/runtime.h"

namespace {

using namespace sluice;

void measure(const char* what, int repetitions, const std::function<std::shared_ptr<void>()>& open) {
  std::vector<double> ms;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto opened = open();  // closed when the time has been taken
    ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::ranges::sort(ms);
  std::printf("%-40s %8.1f %8.1f\n", what, ms.front(), ms[ms.size() / 2]);
}

}  // namespace

int main(int count, char** words) {
  if (count < 2) {
    std::fputs("open_speed FILE.sluice [REPETITIONS]\n", stderr);
    return 2;
  }
  const std::filesystem::path path = words[1];
  const int repetitions = count > 2 ? std::atoi(words[2]) : 9;
  const auto record = std::filesystem::temp_directory_path() / "open_speed.record";
  const auto open_model = [&](runtime::Verify verify, std::vector<std::filesystem::path> records) {
    return std::make_shared<runtime::Model>(runtime::Model::open(
        path,
        {.verify = verify, .thread_count = base::available_threads(), .proof_records = std::move(records)}));
  };
  try {
    std::printf("%-40s %8s %8s\n", "opening, ms", "least", "median");
    measure("container", repetitions,
            [&] { return std::make_shared<format::ContainerReader>(format::ContainerReader::open(path)); });
    measure("model, nothing proven", repetitions, [&] { return open_model(runtime::Verify::off, {}); });
    measure("model, routers and norms proven", repetitions,
            [&] { return open_model(runtime::Verify::first_use, {}); });
    std::filesystem::remove(record);
    open_model(runtime::Verify::first_use, {record});
    measure("model, with a record of proofs", repetitions,
            [&] { return open_model(runtime::Verify::first_use, {record}); });
    std::filesystem::remove(record);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "open_speed: %s\n", error.what());
    return 1;
  }
}
