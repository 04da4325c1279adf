#pragma once
// Fetches pieces from HTTP(S) servers that have the release's files: mirrors that the user names, and the
// torrent's web seeds (BEP 19). libtorrent 2.0 drops a web seed after an error and forgets it, so it is not
// given any. One thread per server claims pieces from a scheduler, fetches them as ranges of their files, and
// passes on only pieces that match the torrent's hashes.
//
// A server that sends files only whole (without byte ranges) is read from the start of a file, once for all
// pieces of it.
//
// A server is rated by its responses: a file that is absent or has another length is not requested again,
// failures are retried after growing pauses, and a server that fails too often or has sent three wrong pieces
// is dropped with a warning that says why. A server's thread holds at most one run of pieces in memory: 8
// MiB, or one piece.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fetch/net/address.h"
#include "fetch/torrent/piece_map.h"
#include "fetch/torrent/piece_verifier.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// How the URL of a release's file is made of the server's URL. Path elements are percent-encoded.
enum class UrlRule : std::uint8_t {
  mirror,    ///< URL/PATH, else URL/NAME/PATH; a single file also at the URL itself
  web_seed,  ///< BEP 19: URL/NAME/PATH; a single file is at the URL itself unless the URL ends in '/'
};

/// The possible URLs of a file, in the order in which to try them.
[[nodiscard]] std::vector<std::string> file_urls(const format::ReleaseLayout& layout, std::size_t file_index,
                                                 const std::string& url, UrlRule rule);

/// Consecutive pieces.
struct PieceRun {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

/// Decides which pieces mirrors fetch, and receives them. Called by the threads of all mirrors at once.
class PieceScheduler {
 public:
  virtual ~PieceScheduler() = default;
  /// Claims up to `count_max` consecutive missing pieces, all of which `has` accepts. The mirror completes or
  /// releases each of them, in the order of the run, before it claims again. An empty run means: ask again a
  /// little later. `has` is fast; it accepts every piece as long as the mirror has had no error.
  [[nodiscard]] virtual PieceRun claim(std::uint64_t count_max,
                                       const std::function<bool(std::uint64_t)>& has) = 0;
  /// True while the piece is wanted and nobody has or fetches it.
  [[nodiscard]] virtual bool is_missing(std::uint64_t piece) = 0;
  /// Passes on a whole piece, padding included, that matches the torrent.
  virtual void complete(std::uint64_t piece, std::vector<char> bytes) = 0;
  /// Gives up a claim, because the mirror could not get the piece now or does not have it at all (then its
  /// `has` refuses the piece from now on).
  virtual void release(std::uint64_t piece) = 0;
  virtual void warn(const std::string& message) = 0;
};

struct MirrorSource {
  Endpoint endpoint;
  UrlRule rule = UrlRule::mirror;
};

struct MirrorOptions {
  bool allow_private = false;
  std::uint64_t limit_down_bytes_per_s = 0;  ///< of all mirrors together; 0: no limit
  std::chrono::milliseconds connect_timeout{15'000};
  std::chrono::seconds stall_timeout{30};
  /// A mirror is dropped after so many failures in a row. With the pauses below it survives three minutes
  /// without a network.
  unsigned failures_max = 10;
  std::chrono::milliseconds pause_min{500};  ///< after the first failure; doubled after each further one
  std::chrono::milliseconds pause_max{60'000};
  std::chrono::milliseconds ask_again_after{250};  ///< pause after an empty claim
};

/// The layout, map, verifier and scheduler must outlive the pool. Pieces whose hashes are not known (a v2
/// torrent before its piece layers have arrived) are not fetched.
class MirrorPool final {
 public:
  MirrorPool(const format::ReleaseLayout& layout, const PieceMap& map, const PieceVerifier& verifier,
             const std::vector<MirrorSource>& mirrors, const MirrorOptions& options,
             PieceScheduler& scheduler);
  /// Aborts transfers in progress. Mirrors may call the scheduler until the destructor returns.
  ~MirrorPool();
  MirrorPool(const MirrorPool&) = delete;
  MirrorPool& operator=(const MirrorPool&) = delete;

  /// Replaces the options' limit; 0: no limit.
  void limit_down(std::uint64_t bytes_per_s);

  /// Received bytes of files, including those of wrong or incomplete pieces.
  [[nodiscard]] std::uint64_t downloaded_bytes() const;
  /// Mirrors that have not been dropped.
  [[nodiscard]] std::size_t used_count() const;

 private:
  class Mirror;
  struct Shared;
  std::unique_ptr<Shared> shared_;
  std::vector<std::jthread> threads_;
};

}  // namespace sluice::fetch
