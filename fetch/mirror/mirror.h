#pragma once
// Pieces from HTTP(S) servers that have the release's files: mirrors that the user names, and the torrent's
// web seeds (BEP 19), of which libtorrent 2.0.8's own handling is faulty. One thread a server asks its user
// which pieces to get, fetches them by ranges of their files, and hands over only what the torrent's hashes
// prove.
//
// A server is judged by what it delivers: a file that is not there or of another length is not asked for
// again, failures are tried again ever more slowly, and one that fails too often, or sent three wrong pieces,
// is left with a warning that says why. In memory is at most one run of pieces a server: 8 MiB, or one piece.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fetch/net/address.h"
#include "fetch/torrent/piece_digest.h"
#include "fetch/torrent/piece_map.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// Where a release's files lie below a URL. Path elements are percent-encoded.
enum class UrlRule : std::uint8_t {
  mirror,    ///< URL/PATH, else URL/NAME/PATH; a single file also at the URL itself
  web_seed,  ///< BEP 19: URL/NAME/PATH; a single file is the URL itself, unless that ends in '/'
};

/// The URLs at which a file can be, in the order in which they are to be tried.
[[nodiscard]] std::vector<std::string> file_urls(const format::ReleaseLayout& layout, std::size_t file_index,
                                                 const std::string& url, UrlRule rule);

/// Pieces that follow each other.
struct PieceRun {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

/// What a mirror's thread asks of its user; called from several threads at once.
class PieceCustomer {
 public:
  virtual ~PieceCustomer() = default;
  /// Up to `count_max` missing pieces to fetch, all of which `has` accepts; each is delivered or given back,
  /// in the order of the run, before the same mirror asks again.
  /// None: ask again a little later. `has` is quick; without an error so far it accepts every piece.
  [[nodiscard]] virtual PieceRun take_pieces(std::uint64_t count_max,
                                             const std::function<bool(std::uint64_t)>& has) = 0;
  /// The whole piece, padding included, proven right.
  virtual void deliver(std::uint64_t piece, std::vector<char> bytes) = 0;
  /// Could not be had, now or ever; this mirror's `has` knows which. Somebody else may.
  virtual void give_back(std::uint64_t piece) = 0;
  virtual void warn(const std::string& message) = 0;
};

struct MirrorSource {
  Endpoint contact;
  UrlRule rule = UrlRule::mirror;
};

struct MirrorOptions {
  bool allow_private = false;
  std::uint64_t limit_down_bytes_per_s = 0;  ///< of all together; 0: none
  std::chrono::milliseconds connect_timeout{15'000};
  std::chrono::seconds stall_timeout{30};
  unsigned failures_max = 10;                      ///< in a row, then it is left; with the pauses below
  std::chrono::milliseconds pause_min{500};        ///< after the first failure, then doubled:
  std::chrono::milliseconds pause_max{60'000};     ///< so that three minutes without a network are survived
  std::chrono::milliseconds ask_again_after{250};  ///< when no piece is to be had from the customer
};

/// The layout, map, judge and customer outlive it. Pieces that the judge cannot judge (a v2 torrent whose
/// piece layers are not known yet) are not asked for.
class MirrorPool final {
 public:
  MirrorPool(const format::ReleaseLayout& layout, const PieceMap& map, const PieceJudge& judge,
             const std::vector<MirrorSource>& mirrors, const MirrorOptions& options, PieceCustomer& customer);
  /// Ends transfers that are under way. The customer may still be called until it returns.
  ~MirrorPool();
  MirrorPool(const MirrorPool&) = delete;
  MirrorPool& operator=(const MirrorPool&) = delete;

  /// In place of the options' limit; 0: none.
  void limit_down(std::uint64_t bytes_per_s);

  /// File bytes that came in, whatever they were worth.
  [[nodiscard]] std::uint64_t downloaded_bytes() const;
  /// Mirrors that have not been left.
  [[nodiscard]] std::size_t used_count() const;

 private:
  class Mirror;
  struct Shared;
  std::unique_ptr<Shared> shared_;
  std::vector<std::jthread> threads_;
};

}  // namespace sluice::fetch
