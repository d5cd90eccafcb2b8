"""The Chinese tales: a separate grammar, with measure words and places as Chinese has them.

No two options of a choice begin with the same character, so a choice shows in the very next character.
"""

from minimega.data.grammar import Grammar

WOMEN = "小梅|阿秀|玉兰|秋月|婉儿|青青|丹丹|慧娘|芳芳|雪莲|紫云|琳琳"
MEN = "大勇|志明|文杰|铁柱|冬生|家宝|天佑|福贵|永安|长河|少华|子轩"
GRAMMAR = {
    "tale": "{opening}{finder=person}在{spot=spot}{where=$spot}{found=found}了一{measure=measure}"
    "{look=$measure}{thing=$measure+thing}。{turn}{giving}{thanks}{ending}",
    "person": WOMEN + "|" + MEN,
    "opening": "从前，在一个{sky}的{hour}，|很久很久以前的一个{season}，|有一年{season}，"
    "|一个{sky}的{hour}，|当{bird}唱起歌的时候，",
    "sky": "起风|下雨|晴朗|多雾|飘雪|宁静",
    "hour": "清晨|午后|黄昏|夜晚",
    "season": "春天|夏天|秋天|冬天",
    "bird": "百灵|夜莺|黄鹂|画眉",
    "spot": "石桥|老槐树|水井|磨坊|小河|集市|山洞|花园|竹林|茶馆|城门|渡口|古庙|谷仓|果园|池塘",
    "石桥": "下|边|上",
    "老槐树": "下|旁",
    "水井": "边|旁",
    "磨坊": "后面|里|前面",
    "小河": "边|里",
    "集市": "上|旁",
    "山洞": "里|前|外",
    "花园": "里|外",
    "竹林": "里|边",
    "茶馆": "里|前|后面",
    "城门": "下|外|边",
    "渡口": "边|旁",
    "古庙": "里|前|后面|外",
    "谷仓": "里|后面|旁",
    "果园": "里|外|边",
    "池塘": "边|里",
    "found": "发现|捡到|找到|看见|拾到",
    "measure": "把|枚|盏|本|张|支|只|顶|条|面",
    "把": "生锈的|古老的|沉甸甸的|漂亮的|闪亮的",
    "枚": "银色的|小小的|罕见的|发亮的|古朴的",
    "盏": "破旧的|精美的|小巧的|奇特的",
    "本": "厚厚的|泛黄的|残缺的|神秘的|薄薄的",
    "张": "泛黄的|神秘的|折好的|皱巴巴的",
    "支": "精致的|断了的|细长的|漆黑的",
    "只": "小小的|雕花的|古怪的|光滑的",
    "顶": "破旧的|宽大的|崭新的",
    "条": "红色的|蓝色的|长长的|美丽的",
    "面": "圆圆的|古旧的|精巧的|裂了的",
    "把+thing": "钥匙|剪刀|宝剑|铜锁",
    "枚+thing": "戒指|硬币|印章|徽章|胸针",
    "盏+thing": "灯笼|油灯|花灯",
    "本+thing": "诗集|画册|日记|乐谱",
    "张+thing": "地图|年画|剪纸|字条",
    "支+thing": "笛子|毛笔|竹箫|发簪",
    "只+thing": "手镯|铃铛|瓷碗|木盒",
    "顶+thing": "草帽|花冠|斗笠",
    "条+thing": "项链|围巾|丝带|手链",
    "面+thing": "镜子|铜锣|小鼓",
    "turn": "它{lay}地躺在那儿。|没有人告诉{finder}那是谁的。|{finder}{smiled}，把它收了起来。"
    "|附近的{neighbour}都说没丢过东西。",
    "lay": "静静|孤零零|默默",
    "smiled": "笑了笑|想了想|看了又看|愣了一下",
    "neighbour": "邻居|村民|孩子|老人",
    "giving": "后来，{finder}把它{brought}{trade=trade}{receiver=person}。"
    "|到了{later}，{ta:finder}把它交给了{trade=trade}{receiver=person}。"
    "|不久，{trade=trade}{receiver=person}从{ta:finder}手里得到了这{measure}{thing}。",
    "brought": "送给了|带给了|让给了",
    "later": "中午|傍晚|第二天|月底",
    "trade": "木匠|渔夫|农夫|裁缝|花匠|陶工|厨师|牧人|画师|茶农|糕点师|郎中",
    "木匠": "把结实的椅子",
    "渔夫": "条新鲜的鲈鱼",
    "农夫": "筐香甜的红薯",
    "裁缝": "件厚实的棉衣",
    "花匠": "盆洁白的茉莉",
    "陶工": "个青色的花瓶",
    "厨师": "碗热腾腾的鸡汤",
    "牧人": "头温顺的小羊",
    "画师": "幅秀丽的山水画",
    "茶农": "包清香的新茶",
    "糕点师": "盒松软的点心",
    "郎中": "瓶珍贵的药酒",
    "thanks": "{receiver}很{glad}，送给{finder}一{gift=$trade}。"
    "|为了答谢，{trade}送给{ta:finder}一{gift=$trade}。"
    "|作为回报，{receiver}给了{ta:finder}一{gift=$trade}。",
    "glad": "高兴|感动|惊喜|开心",
    "ending": "多年以后，{receiver}还常常{told}{finder}在{spot}{where}{found}那{measure}{thing}的故事。"
    "|是谁{found}了那{measure}{thing}？是{finder}。如今它在谁手里？在{receiver}手里。"
    "|如今，{receiver}还留着那{measure}{look}{thing}，{finder}也常常{dreams}那{gift}。"
    "|孩子们问{receiver}，那{measure}{thing}是从哪儿来的。{ta:receiver}说，是{finder}在{spot}{where}{found}的。"
    "|就这样，因为一{measure}{look}{thing}，{finder}和{receiver}成了{friends}。",
    "told": "讲起|说起|提起|想起",
    "dreams": "梦见|想起|说起",
    "friends": "好朋友|老搭档|一家人|知己",
}

CHINESE = Grammar("tales-zh", GRAMMAR, {"ta": ("她", "他")}, men=MEN.split("|"))
