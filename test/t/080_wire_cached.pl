# The oracle (test/wire) with a cache and on shared links: the same bytes get the same answers as on a direct connection, with a cold, a warm and an
# outdated cache, with one link and with many, and behind the reads of others.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Scripted;
use Test::More;

my $oracle = Scripted->new;
my @about_caches = map { s{.*/}{}r =~ s/\.wire$//r } glob("$Scripted::wire/scripts/cached_*.wire");
my @without_descriptions = grep { $_ ne 'cached_descriptions' } @about_caches;

sub plays_alike_cached { $oracle->plays_alike_thrice('cache_hit', @_); return; }
sub plays_alike_shared { $oracle->plays_alike_thrice('shared', @_); return; }

plays_alike_cached('a cache, cold and warm and after a write', 'cached', { HP_MODES => 'cached' });
plays_alike_cached('a cache, every write cut in pieces', 'cached', { HP_MODES => 'cached-split' }, @without_descriptions);
plays_alike_cached('a cache and one link', 'cached_narrow', { HP_MODES => 'cached', HP_LINKS => 1 }, (grep { !/between_writes|transactions/ } @about_caches), 'plan_broken_by_ddl');

plays_alike_shared('a shared link', 'narrow', { HP_MODES => 'cached', HP_LINKS => 1 });
plays_alike_shared('shared links, every write cut in pieces', 'wide', { HP_MODES => 'cached-split' }, @without_descriptions,
	qw(extended_basic extended_errors_phases extended_formats extended_named flush pipeline_mixed portal_lifetimes same_read_every_way search_path_same_text simple_pipelined statements_many terminate));

done_testing();
