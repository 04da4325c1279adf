// The worker process of the tests (`sluice fetch-worker` in the product), and with arguments a whole fetch
// that a test can kill: fetch_test_worker SOURCE FOLDER PEER LIMIT_DOWN. It prints how many bytes are done,
// and warnings.

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "fetch/fetch.h"

namespace {

class PrintingObserver final : public sluice::fetch::FetchObserver {
 public:
  void on_layout(const sluice::format::ReleaseLayout&) override {}
  void on_status(const sluice::fetch::FetchStatus& status) override {
    std::printf("%llu\n", static_cast<unsigned long long>(status.done_bytes));
    std::fflush(stdout);
  }
  void on_warning(std::string_view message) override {
    std::printf("warning: %.*s\n", static_cast<int>(message.size()), message.data());
    std::fflush(stdout);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) return sluice::fetch::run_worker();
  if (argc != 5) return 2;
  sluice::fetch::FetchRequest request;
  request.source = argv[1];
  request.output_folder = argv[2];
  request.peers = {argv[3]};
  request.limit_down_bytes_per_s = std::strtoull(argv[4], nullptr, 10);
  request.dht = false;
  request.lsd = false;
  request.timeout_s = 20;
  request.worker_command = {argv[0]};
  try {
    PrintingObserver observer;
    static_cast<void>(sluice::fetch::fetch(request, observer, {}));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
